//! Cases of several runs, merged by recipe.

use super::{
    Cell, Column,
    terms::{Identity, Terms},
};

/// A recipe with what it took in each column that has it.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// Model, resolution and precision, with what tells it from recipes of the same name.
    pub label: String,
    /// One for each of two columns or more, in their order.
    pub cells: Vec<Cell<'a>>,
}

/// Why a case is not set beside those of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// Model, resolution and precision.
    pub recipe: String,
    /// Label of its column.
    pub column: String,
    /// What differs, such as `prompt tokens`.
    pub key: String,
    /// Its value here.
    pub value: String,
    /// Label of the column that it differs from, and the value there; `None` if there is no other.
    pub other: Option<(String, String)>,
}

/// A case on its way into a recipe.
pub(super) struct Entry<'a> {
    pub terms: Terms,
    pub cell: Cell<'a>,
}

/// What a term that a case does not have is worth.
const ABSENT: &str = "–";

/// Cases of one name whose terms agree are a recipe; the others stand apart.
pub(super) fn merge<'a>(
    entries: Vec<Entry<'a>>,
    columns: &[Column<'_>],
) -> (Vec<Recipe<'a>>, Vec<Apart>) {
    let mut named: Vec<(Identity<'a>, Vec<Vec<Entry<'a>>>)> = Vec::new();
    let mut apart = Vec::new();
    for entry in entries {
        let identity = Identity::of(entry.cell.facts);
        let at = named.iter().position(|(known, _)| *known == identity);
        let at = at.unwrap_or_else(|| {
            named.push((identity, Vec::new()));
            named.len() - 1
        });
        let groups = &mut named[at].1;
        let same = groups
            .iter_mut()
            .find(|group| group[0].terms == entry.terms);
        let Some(group) = same else {
            groups.push(vec![entry]);
            continue;
        };
        // One run may measure a recipe twice, as the side of a claim for instance.
        match group.iter().find(|e| e.cell.column == entry.cell.column) {
            None => group.push(entry),
            Some(first) => apart.push(Apart {
                recipe: identity.label(),
                column: columns[entry.cell.column].label.clone(),
                key: "measured twice".into(),
                value: entry.cell.facts.case.clone(),
                other: Some((
                    columns[first.cell.column].label.clone(),
                    first.cell.facts.case.clone(),
                )),
            }),
        }
    }
    let mut recipes = Vec::new();
    for (identity, groups) in named {
        let widest = (groups.iter().enumerate().rev()).max_by_key(|(_, group)| group.len());
        let widest = widest.map_or(0, |(index, _)| index);
        let names = labels(&identity, &groups);
        for (index, group) in groups.iter().enumerate() {
            let [only] = group.as_slice() else { continue };
            if index != widest {
                apart.extend(differences(&identity, only, &groups[widest][0], columns));
            } else if groups.len() == 1 {
                apart.push(Apart {
                    recipe: identity.label(),
                    column: columns[only.cell.column].label.clone(),
                    key: "measured nowhere else".into(),
                    value: only.cell.facts.case.clone(),
                    other: None,
                });
            }
        }
        for (label, mut group) in names.into_iter().zip(groups) {
            if group.len() > 1 {
                group.sort_by_key(|entry| entry.cell.column);
                let cells = group.into_iter().map(|entry| entry.cell).collect();
                recipes.push(Recipe { label, cells });
            }
        }
    }
    (recipes, apart)
}

/// Names of the groups: the identity's, and where several become recipes the terms in which those differ.
fn labels(identity: &Identity<'_>, groups: &[Vec<Entry<'_>>]) -> Vec<String> {
    let shown: Vec<&Terms> = (groups.iter())
        .filter(|group| group.len() > 1)
        .map(|group| &group[0].terms)
        .collect();
    let differ = |key: &&String| {
        shown
            .windows(2)
            .any(|two| two[0].get(*key) != two[1].get(*key))
    };
    let name = |group: &Vec<Entry<'_>>| {
        let own = &group[0].terms;
        let keys = own.keys().filter(differ);
        let parts: Vec<String> = keys.map(|key| format!(", {key} {}", own[key])).collect();
        identity.label() + &parts.concat()
    };
    groups.iter().map(name).collect()
}

/// The terms in which a case differs from another of its name.
fn differences(
    identity: &Identity<'_>,
    here: &Entry<'_>,
    there: &Entry<'_>,
    columns: &[Column<'_>],
) -> Vec<Apart> {
    let keys = here.terms.keys().chain(there.terms.keys());
    let mut keys: Vec<&String> = (keys)
        .filter(|key| here.terms.get(*key) != there.terms.get(*key))
        .collect();
    keys.sort();
    keys.dedup();
    let value = |of: &Entry<'_>, key: &String| {
        let value = of.terms.get(key).map(String::as_str);
        value.unwrap_or(ABSENT).to_owned()
    };
    let label = |of: &Entry<'_>| columns[of.cell.column].label.clone();
    let one = |key: &String| Apart {
        recipe: identity.label(),
        column: label(here),
        key: key.clone(),
        value: value(here, key),
        other: Some((label(there), value(there, key))),
    };
    keys.into_iter().map(one).collect()
}
