//! Comparisons and changes against scipy, statsmodels and numpy: `tools/stats/reference.py`.

use serde_json::Value;
use vlmbench_reports::stats::{
    ChangeSettings, Significance, change_points, cluster_flips, cluster_interval,
    difference_interval, frontier, holm, mcnemar, permutations, shift_interval, sign_flips,
};

fn cases(section: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../fixtures/stats.json")).unwrap();
    let section = &all[section];
    let found = section.as_array().cloned();
    found.unwrap_or_else(|| vec![section.clone()])
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Exact p values to rounding; where both sides drew 99,999 at random, within four standard errors.
fn assert_like(found: Significance, case: &Value) {
    let random = case["random"] == true;
    assert_eq!(found.exact, !random);
    for (key, found) in [
        ("p_greater", found.p_greater),
        ("p_less", found.p_less),
        ("p_two", found.p_two),
    ] {
        let expected = case[key].as_f64().unwrap();
        let error = 4.0 * (2.0 * expected * (1.0 - expected / 2.0).max(0.01) * 2.0 / 1e5).sqrt();
        let allowed = if random { error + 2e-5 } else { 1e-12 };
        assert!(
            (found - expected).abs() <= allowed,
            "{key}: {found}, {case}"
        );
    }
}

fn assert_ends(low: f64, high: f64, expected: &[f64], allowed: f64) {
    let width = expected[1] - expected[0];
    let off = (low - expected[0]).abs().max((high - expected[1]).abs());
    assert!(off <= allowed * width, "{low}..{high}, {expected:?}");
}

#[test]
fn sign_flips_are_scipy_s_and_intervals_are_of_all_subsets() {
    let mut intervals = 0;
    for case in cases("sign_flips") {
        let values = numbers(&case["values"]);
        // 40 values are too many to try all signs, in scipy from fewer on.
        assert_like(sign_flips(&values).unwrap(), &case);
        for expected in case["intervals"].as_array().unwrap() {
            let found = shift_interval(&values, expected[0].as_f64().unwrap()).unwrap();
            assert_ends(found.low, found.high, &numbers(&expected[1]), 1e-5);
            intervals += 1;
        }
    }
    assert!(intervals > 30);
}

#[test]
fn permutations_and_their_intervals_are_scipy_s() {
    for case in cases("permutations") {
        let (base, candidate) = (numbers(&case["base"]), numbers(&case["candidate"]));
        assert_like(permutations(&base, &candidate).unwrap(), &case);
        for expected in case["intervals"].as_array().unwrap() {
            let confidence = expected[0].as_f64().unwrap();
            let found = difference_interval(&base, &candidate, confidence).unwrap();
            assert_ends(found.low, found.high, &numbers(&expected[1]), 1e-9);
        }
    }
}

#[test]
fn holm_and_mcnemar_are_those_of_statsmodels() {
    for case in cases("holm") {
        for (found, expected) in holm(&numbers(&case["p"]))
            .iter()
            .zip(numbers(&case["adjusted"]))
        {
            assert!((found - expected).abs() < 1e-12, "{found}, {case}");
        }
    }
    for case in cases("mcnemar") {
        let count = |key: &str| case[key].as_u64().unwrap();
        let found = mcnemar(count("lost"), count("gained"));
        for (key, found) in [
            ("p_greater", found.p_greater),
            ("p_less", found.p_less),
            ("p_two", found.p_two),
        ] {
            let expected = case[key].as_f64().unwrap();
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{key}: {found}, {case}"
            );
        }
    }
}

#[test]
fn clusters_flip_as_in_scipy_and_are_drawn_as_in_numpy() {
    for case in cases("clusters") {
        let differences = numbers(&case["differences"]);
        let keys: Vec<u64> = (case["keys"].as_array().unwrap().iter())
            .map(|key| key.as_u64().unwrap())
            .collect();
        let found = cluster_flips(&differences, &keys).unwrap();
        // Up to 32 clusters are exact here; the reference may have drawn.
        let mut case = case;
        if found.exact && case["random"] == true {
            let expected = case["p_two"].as_f64().unwrap();
            assert!((found.p_two - expected).abs() < 0.01, "{found:?}, {case}");
        } else {
            case["random"] = Value::Bool(!found.exact);
            assert_like(found, &case);
        }
        let interval = cluster_interval(&differences, &keys, 0.95).unwrap();
        assert_ends(
            interval.low,
            interval.high,
            &numbers(&case["interval"]),
            0.05,
        );
    }
}

#[test]
fn changes_are_found_where_e_divisive_finds_them() {
    let mut changes = 0;
    for case in cases("change_points") {
        let settings = ChangeSettings {
            p: case["p"].as_f64().unwrap(),
            least_change: 0.0,
            least_values: 2,
        };
        let found = change_points(&numbers(&case["values"]), settings);
        let expected = case["changes"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}, {case}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.index as u64, expected[0].as_u64().unwrap());
            // Shares of 999 and of 1,999 random orders.
            assert!(
                (found.p - expected[1].as_f64().unwrap()).abs() < 0.01,
                "{found:?}"
            );
            changes += 1;
        }
    }
    assert!(changes >= 3);
}

#[test]
fn fronts_and_their_areas_are_those_of_the_definitions() {
    let case = &cases("frontier")[0];
    let point = |v: &Value| (v[0].as_f64().unwrap(), v[1].as_f64().unwrap());
    let replicates: Vec<Vec<(f64, f64)>> = (case["replicates"].as_array().unwrap().iter())
        .map(|replicate| replicate.as_array().unwrap().iter().map(point).collect())
        .collect();
    let found = frontier(&replicates, point(&case["reference"])).unwrap();
    assert_eq!(found.membership, numbers(&case["membership"]));
    assert_eq!(found.hypervolume, numbers(&case["hypervolume"]));
}
