//! The published FastVLM tables, and how a case finds its value in them.

use vlmbench_reports::published::{Method, Point, Published, Wanted};

use crate::synthetic::{fastvlm, series};

#[test]
fn the_file_is_sound() {
    let file = fastvlm();
    file.check().unwrap();
    let ids: Vec<&str> = file
        .series
        .iter()
        .map(|series| series.id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "avg5-vicuna-7b",
            "avg5-qwen2-0.5b",
            "table-3",
            "table-6",
            "table-6-cvf",
            "table-10",
            "table-11"
        ]
    );
    let error = file.series("avg6").unwrap_err().to_string();
    assert!(error.contains("avg5-vicuna-7b"), "{error}");
}

/// Avg-5 must be the mean of its five parts, which are rounded themselves: a slip in the transcription would show here.
#[test]
fn printed_averages_agree_with_their_parts() {
    let parts = ["GQA", "TextVQA", "POPE", "DocVQA", "SeedBench-Image"];
    let mut checked = 0;
    for point in &series("avg5-vicuna-7b").points {
        let values: Option<Vec<f64>> = parts
            .iter()
            .map(|part| point.metrics.get(*part).copied())
            .collect();
        if let Some(values) = values {
            let mean = values.iter().sum::<f64>() / 5.0;
            assert!((mean - point.metrics["Avg-5"]).abs() < 0.11, "{point:?}");
            checked += 1;
        }
    }
    assert_eq!(checked, 12, "all rows of Tables 1 and 4");
}

/// Every TTFT that the file computes is encoder + prefill, and Table 6 prints the same rounded.
#[test]
fn computed_ttfts_are_sums_and_agree_with_table_6() {
    let table_6 = series("table-6");
    let key = |p: &Point| {
        let decoder = p.decoder.clone();
        (p.encoder.clone(), decoder, p.resolution, p.visual_tokens)
    };
    let mut agreeing = 0;
    for point in &series("table-10").points {
        let (Some(ttft), Some(encoder), Some(prefill)) =
            (point.ttft_ms, point.encoder_latency_ms, point.prefill_ms)
        else {
            continue;
        };
        assert!((encoder + prefill - ttft).abs() < 0.06, "{point:?}");
        let printed = table_6.points.iter().find(|other| key(other) == key(point));
        if let Some(printed) = printed.and_then(|printed| printed.ttft_ms) {
            assert!((printed - ttft).abs() <= 1.0, "{point:?} against {printed}");
            agreeing += 1;
        }
    }
    assert!(agreeing >= 15, "{agreeing}");
}

fn wanted<'a>(encoder: &'a str, resolution: u32, decoder: Option<&'a str>) -> Wanted<'a> {
    Wanted {
        encoder,
        resolution,
        visual_tokens: None,
        decoder,
    }
}

#[test]
fn a_join_needs_the_same_encoder_and_resolution() {
    let vicuna = series("avg5-vicuna-7b");
    let value = |encoder, resolution| {
        let found = vicuna.accuracy(wanted(encoder, resolution, Some("qwen2-0.5b")))?;
        assert!(!found.same_decoder);
        assert_eq!(found.point.decoder.as_deref(), Some("Vicuna-7B"));
        Some((found.value, found.point.source.table.as_str()))
    };
    assert_eq!(
        value("clip-vit-large-patch14-336", 336),
        Some((60.1, "Table 1"))
    );
    assert_eq!(value("vit_l_14", 336), Some((60.1, "Table 1")));
    assert_eq!(value("FastViT", 256), Some((54.4, "Table 1")));
    assert_eq!(value("fastvit-mci2", 768), Some((62.6, "Table 1")));
    for (resolution, accuracy) in [(256, 55.5), (512, 60.4), (768, 62.8), (1024, 63.9)] {
        assert_eq!(value("fastvithd", resolution), Some((accuracy, "Table 4")));
    }
    // Not published: FastViT at 512, ViT-L/14 at 224, an unknown encoder.
    assert_eq!(value("fastvit", 512), None);
    assert_eq!(value("ViT-L/14", 224), None);
    assert_eq!(value("fastvit-mci0", 256), None);
}

#[test]
fn a_join_needs_as_many_visual_tokens() {
    let vicuna = series("avg5-vicuna-7b");
    let value = |visual_tokens| {
        let what = Wanted {
            visual_tokens,
            ..wanted("ViT-L/14", 336, None)
        };
        Some(vicuna.accuracy(what)?.value)
    };
    assert_eq!(value(Some(576)), Some(60.1));
    // Five tiles of it, or an eighth of its tokens.
    assert_eq!((value(Some(2880)), value(Some(72))), (None, None));
}

#[test]
fn a_join_prefers_the_same_decoder_and_says_so() {
    let qwen = series("avg5-qwen2-0.5b");
    let found = qwen
        .accuracy(wanted("FastViTHD", 1024, Some("Qwen/Qwen2-0.5B-Instruct")))
        .unwrap();
    assert!(found.same_decoder);
    assert_eq!(
        (found.value, found.point.source.method),
        (55.9, Method::Digitised)
    );
    let any = wanted("FastViTHD", 1024, None);
    assert_eq!(qwen.ttft_ms(any).unwrap().value, 167.2);
    // Table 6 has FastViTHD at 1024 px with three decoders.
    let table_6 = series("table-6");
    let ttft = |decoder| {
        table_6
            .ttft_ms(wanted("FastViTHD", 1024, Some(decoder)))
            .unwrap()
            .value
    };
    assert_eq!(
        [ttft("qwen2-0.5b"), ttft("vicuna-7b"), ttft("qwen2-7b")],
        [166.0, 577.0, 641.0]
    );
    // A series without a metric gives no accuracy.
    assert!(table_6.accuracy(any).is_none());
}

#[test]
fn contradictions_are_found() {
    let broken = |change: fn(&mut Published)| {
        let mut file = fastvlm();
        change(&mut file);
        file.check().unwrap_err().to_string()
    };
    let error = broken(|file| file.series[1].id = file.series[0].id.clone());
    assert!(
        error.contains("\"avg5-vicuna-7b\" is given twice"),
        "{error}"
    );
    let error = broken(|file| file.series[0].metric = Some("Avg-6".into()));
    assert!(error.contains("Avg-6"), "{error}");
    let error = broken(|file| {
        file.aliases
            .insert("Other".into(), vec!["fastvit_hd".into()]);
    });
    assert!(error.contains("is given twice"), "{error}");
}
