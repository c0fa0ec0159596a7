//! `tollgate models`: what is known of models: price, context window, abilities, the day on which they go.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::SystemClock;
use crate::gateway::Figures;
use crate::house::House;
use crate::ledger::{Document, Model, Price, Unit, When, facts};
use crate::providers::presets;
use crate::target::TargetName;

/// What to list.
#[derive(Debug, clap::Args)]
pub(super) struct ModelsArgs {
    /// Only models whose name contains this.
    filter: Option<String>,
    /// Every model of the price lists, of all providers that have a preset, not only what the configuration names.
    #[arg(long)]
    all: bool,
    /// JSON, one array.
    #[arg(long)]
    json: bool,
}

/// One line of the list.
struct Row {
    name: String,
    model: Option<Model>,
    origin: String,
}

/// Lists the models of the configuration, or of all price lists.
pub(super) fn models(args: &ModelsArgs, config: Option<PathBuf>) -> ExitCode {
    let house = match House::open(config) {
        Ok(house) => house,
        Err(problems) => {
            problems.print();
            return ExitCode::FAILURE;
        }
    };
    let figures = house.figures();
    let built = match house.build(&SystemClock) {
        Ok(built) => built,
        Err(problems) => {
            problems.print();
            return ExitCode::FAILURE;
        }
    };
    figures.configure(built.terms);
    read_files(&figures);
    let book = figures.prices.book();
    let mut rows: Vec<Row> = if args.all {
        let all = presets::all().iter().flat_map(|preset| book.models_of(&preset.name));
        all.map(|(name, origin, model)| Row { name, model: Some(model), origin: origin.to_string() })
            .collect()
    } else {
        let vendors = built.snapshot.catalogue.vendors();
        let targets =
            vendors.iter().flat_map(|vendor| vendor.models.iter().map(move |model| (vendor, model)));
        let row = |(vendor, model): (&&Arc<crate::providers::Vendor>, &Arc<str>)| {
            let name = TargetName { provider: vendor.name.clone(), model: model.clone() };
            let known = book.of(&name, vendor.preset.as_deref());
            let origin = known.as_ref().map_or_else(String::new, |known| known.origin.to_string());
            Row { name: name.to_string(), model: known.map(|known| known.model.clone()), origin }
        };
        targets.map(row).collect()
    };
    rows.retain(|row| args.filter.as_ref().is_none_or(|part| row.name.contains(part.as_str())));
    if args.json {
        let all: Vec<Value> = rows.iter().map(Row::json).collect();
        say(&[serde_json::to_string_pretty(&all).unwrap_or_default()]);
    } else {
        say(&table(&rows, args.all));
    }
    ExitCode::SUCCESS
}

/// Sources that are files are read at once; addresses are read by the gateway that runs.
pub(super) fn read_files(figures: &Figures) {
    let sources = figures.sources.load_full();
    let order: Vec<Arc<str>> = sources.iter().map(|source| source.from.as_str().into()).collect();
    for (source, name) in sources.iter().zip(&order) {
        if source.from.contains("://") {
            eprintln!(
                "tollgate: {}: not read by this command; ask a running gateway at /admin/v1/prices",
                source.from
            );
            continue;
        }
        let text = std::fs::read(&source.from).map_err(|error| error.to_string());
        match text.and_then(|text| Document::read(&text, &source.provider)) {
            Ok(document) => drop(figures.prices.fetched(name, document, &order)),
            Err(error) => eprintln!("tollgate: {}: {error}", source.from),
        }
    }
}

impl Row {
    fn json(&self) -> Value {
        let mut row = json!({ "model": self.name, "known": self.model.is_some() });
        if let (Some(model), Some(object)) = (&self.model, row.as_object_mut()) {
            object.insert("origin".into(), self.origin.as_str().into());
            object.extend(facts(model));
        }
        row
    }

    fn cells(&self) -> [String; 8] {
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let Some(model) = &self.model else {
            let dash = || "-".to_owned();
            return [
                self.name.clone(),
                dash(),
                dash(),
                dash(),
                "unknown".into(),
                "unknown".into(),
                dash(),
                dash(),
            ];
        };
        let now = When { unix_ms: crate::clock::Clock::unix_ms(&SystemClock), ..When::default() };
        let other = |price: &Price| {
            let units = [Unit::Image, Unit::AudioSecond, Unit::Character, Unit::Request];
            let found = units.into_iter().find_map(|unit| Some((unit, price.rate(unit, 0, now)?)));
            found.map(|(unit, price)| {
                let dollars = if unit.by_million() { price.million() } else { price.one() };
                format!("{dollars}/{}", unit.name())
            })
        };
        let rate = |unit: Unit| match &model.price {
            None => "unknown".to_owned(),
            Some(price) => match price.rate(unit, 0, now) {
                Some(rate) => rate.to_string(),
                None => other(price).filter(|_| unit == Unit::Input).unwrap_or_else(|| "-".to_owned()),
            },
        };
        [
            self.name.clone(),
            model.kind.name().to_owned(),
            number(model.context_window),
            number(model.max_output),
            rate(Unit::Input),
            rate(Unit::Output),
            model.deprecation.map_or_else(|| "-".to_owned(), |date| date.to_string()),
            model.abilities.names().collect::<Vec<_>>().join(","),
        ]
    }
}

/// Writes lines to standard output; whoever reads them may have seen enough (`| head`).
fn say(lines: &[String]) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

/// A table; prices in dollars for a million tokens. `all` models of the price lists were asked for.
fn table(rows: &[Row], all: bool) -> Vec<String> {
    let head = ["MODEL", "KIND", "CONTEXT", "OUTPUT", "$IN/M", "$OUT/M", "UNTIL", "CAPABILITIES"];
    let table: Vec<[String; 8]> =
        std::iter::once(head.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| table.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines: Vec<String> = table
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    if rows.is_empty() {
        lines.push(if all {
            "no price list knows such a model".to_owned()
        } else {
            "no model; list some under `models:` of a provider, or try `tollgate models --all`".to_owned()
        });
    }
    lines
}
