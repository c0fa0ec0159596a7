//! The page `docs/translation.md`, made of what the translations do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::field::Fate;
use super::probe::Findings;
use super::{CLIENTS, NONE_YET, PROVIDERS, answer, is_native, request};

const HEAD: &str = "\
# Translations

<!-- Made by a test in src/api/translation/page.rs; TOLLGATE_REWRITE=1 cargo test --lib api::translation rewrites it. -->

A client speaks the dialect of its door, a provider its own. Where both are the same, the client's bytes go through and
nothing is lost. Otherwise a request is translated, and so is its answer. What the other dialect cannot say is named: in
the response header `x-tollgate-warnings`, in the access log under `warnings`, and in the metric
`tollgate_translation_losses_total`. A strict request (`strict: true`, or the header `x-tollgate-strict: true`) is refused
with 400 instead, before anything is sent; losses in answers, which are paid for already, are reported only. Losses in
streamed answers come after the response's head: they stand in the log and, in server-sent events towards clients of the
OpenAI and Anthropic dialects, in a comment `: tollgate-warnings …` before the end.

Answers of Anthropic's dialect must have counts of tokens. Where a provider reported none, its clients read 0; what the
gateway books is its own estimate, which stands in the access log, the ledger and the decision record.

Names of tools that the provider would refuse (too long, a dot, a digit first) are fitted for it, the same in every turn, and
answers bear the client's own; a warning says what the provider saw. Clients who send OpenAI's `functions` get one
`function_call` from every provider.

The tables below are found out by running the translations: each field of a maximal document is taken away in turn, and
what changes on the other side is what became of it.

| in a cell | means |
|---|---|
| **=** | carried, under the same name |
| → `path` | carried or converted to this place |
| ✗ | lost, and reported in these words |
| 400 | such a request is refused, or moves on to another target: an answer would be wrong without it |
| – | nothing to carry: what follows in brackets tells why |

Where a cell says several things, it depends on the value or on what else stands in the request. Fields that begin with
`x_` stand for any that no document knows. Models: ";

#[test]
fn the_shipped_page_is_what_the_code_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/translation.md");
    let made = page();
    if std::env::var_os("TOLLGATE_REWRITE").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == made,
        "docs/translation.md is stale: run `TOLLGATE_REWRITE=1 cargo test --lib api::translation`"
    );
}

fn page() -> String {
    let mut page = String::from(HEAD);
    let models: Vec<String> = PROVIDERS.iter().map(|p| format!("{} `{}`", p.name, p.model)).collect();
    let _ = writeln!(page, "{}.", models.join(", "));
    for client in CLIENTS {
        let _ = write!(page, "\n## Requests: {}\n\n", client.name);
        let others: Vec<_> = PROVIDERS.iter().filter(|p| !is_native(client, &p.target())).collect();
        let columns = others.iter().map(|p| (p.name, request::findings(client, &p.target())));
        table(&mut page, "to", columns.collect());
    }
    for provider in PROVIDERS.iter().filter(|provider| provider.answers != NONE_YET) {
        let _ = write!(page, "\n## Answers: {}\n\n", provider.name);
        let others = CLIENTS.iter().filter(|client| !is_native(client, &provider.target()));
        let columns = others.map(|client| (client.name, answer::findings(provider, client)));
        table(&mut page, "to a client of", columns.collect());
    }
    page
}

fn table(page: &mut String, to: &str, columns: Vec<(&str, Findings)>) {
    let heads: Vec<String> = columns.iter().map(|(name, _)| format!("{to} {name}")).collect();
    let _ = writeln!(page, "| field | {} |\n|---|{}", heads.join(" | "), "---|".repeat(columns.len()));
    let names: BTreeSet<&String> = columns.iter().flat_map(|(_, found)| found.keys()).collect();
    for name in names {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, found)| found.get(name).map(|fates| cell(name, fates)).unwrap_or_default())
            .collect();
        let _ = writeln!(page, "| `{name}` | {} |", cells.join(" | "));
    }
}

fn cell(name: &str, fates: &[Fate]) -> String {
    let said = |fate: &Fate| match fate {
        Fate::Carried(path) | Fate::Converted(path) if bare(path) == bare(name) => "**=**".to_owned(),
        Fate::Carried(path) | Fate::Converted(path) => format!("→ `{path}`"),
        Fate::Understood => "– (understood)".to_owned(),
        Fate::Reported(what) => format!("✗ {what}"),
        Fate::Needless(why) => format!("– ({why})"),
        Fate::Refused => "400".to_owned(),
        Fate::Silent => "**dropped in silence**".to_owned(),
    };
    let mut all: Vec<String> = Vec::new();
    for text in fates.iter().map(said) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all.join("; ").replace('|', "\\|").replace('\n', " ")
}

/// A path without what stands in its brackets.
fn bare(path: &str) -> String {
    let mut inside = false;
    let outside = path.chars().filter(|c| {
        inside = (inside && *c != ']') || *c == '[';
        !inside && *c != ']'
    });
    outside.collect()
}
