//! Whether a file is a component of the contract: what it imports was granted, what it exports can be asked.

use std::borrow::Cow;

use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::plugin::Examined;
use crate::plugin::function::{PACKAGE, VERSION};
use crate::plugin::settings::{Capability, Interface, PluginSettings};

/// The first bytes of a core module and of a component.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Names at the outer edge of a component.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// What can be seen of a file without running it.
///
/// # Errors
/// The file is no WebAssembly, or a core module that carries no usable types.
pub fn examine(bytes: &[u8]) -> Result<Examined, String> {
    let component = component(bytes)?;
    let Edge { imports, exports } = edge(&component)?;
    let is_component = bytes.starts_with(COMPONENT);
    Ok(Examined { component: component.into_owned(), is_component, imports, exports })
}

/// The file as a component: a core module is wrapped by the types that it carries.
pub(super) fn component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if bytes.starts_with(COMPONENT) {
        return Ok(Cow::Borrowed(bytes));
    }
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if !bytes.starts_with(MODULE) {
        let text = if bytes.starts_with(b"\0asm") {
            "a WebAssembly file of another version"
        } else {
            "not a WebAssembly file"
        };
        return Err(format!("{text}: a component is wanted, or a core module built with wit-bindgen"));
    }
    if !carries_types(bytes)? {
        return Err("a core module that does not say which world of the contract it is for: build it with wit-bindgen or \
                    the SDK (`tollgate plugin new` makes an example), or make it a component"
            .into());
    }
    let wrapped =
        ComponentEncoder::default().module(bytes).and_then(|encoder| encoder.validate(true).encode());
    wrapped.map(Cow::Owned).map_err(|error| {
        format!("the core module cannot be made a component of the contract {PACKAGE}@{VERSION}: {error:#}")
    })
}

fn carries_types(module: &[u8]) -> Result<bool, String> {
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| format!("not a WebAssembly module: {error}"))?;
        if let Payload::CustomSection(section) = payload
            && section.name().starts_with("component-type")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads what a component imports and exports.
pub(super) fn edge(component: &[u8]) -> Result<Edge, String> {
    let mut edge = Edge::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| format!("not a WebAssembly component: {error}"))?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(|error| format!("its imports cannot be read: {error}"))?;
                    edge.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export.map_err(|error| format!("its exports cannot be read: {error}"))?;
                    edge.exports.push(export.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(edge)
}

impl Edge {
    /// Interfaces of the contract that are imported, without package and version.
    pub(super) fn imported(&self) -> Vec<String> {
        let ours = self.imports.iter().filter_map(|name| Named::read(name));
        ours.filter(|named| named.interface != "types").map(|named| named.interface.to_owned()).collect()
    }

    /// Proves that the component is of this version of the contract, imports what it was granted only, and can be asked
    /// something.
    pub(super) fn check(&self, settings: &PluginSettings) -> Result<(), String> {
        self.check_version()?;
        self.check_imports(settings)?;
        self.check_exports(settings)
    }

    fn check_version(&self) -> Result<(), String> {
        let others = self.imports.iter().chain(&self.exports).filter_map(|name| Named::read(name));
        let Some(other) = others.into_iter().find(|named| !named.speaks_our_version()) else { return Ok(()) };
        Err(format!(
            "it was built for {PACKAGE}@{}, this gateway speaks {PACKAGE}@{VERSION}: build it again with the contract of \
             this release (`tollgate plugin new` writes it out)",
            if other.version.is_empty() { "(no version)" } else { other.version }
        ))
    }

    fn check_imports(&self, settings: &PluginSettings) -> Result<(), String> {
        let (mut foreign, mut unknown, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for name in &self.imports {
            let Some(named) = Named::read(name) else {
                foreign.push(format!("`{name}`"));
                continue;
            };
            let granted = match named.interface {
                "types" => true,
                "log" => settings.grants(Capability::Log),
                "state" => settings.grants(Capability::State),
                "clock" => settings.grants(Capability::Clock),
                "random" => settings.grants(Capability::Random),
                "metrics" => settings.grants(Capability::Metrics),
                "ai" => settings.grants(Capability::Ai),
                "http" => settings.hosts().is_some(),
                other => {
                    unknown.push(format!("`{other}`"));
                    continue;
                }
            };
            if !granted {
                let word = if named.interface == "http" {
                    "http: [the hosts that it may reach]"
                } else {
                    named.interface
                };
                missing.push(format!("`{word}`"));
            }
        }
        if !foreign.is_empty() {
            return Err(format!(
                "it imports {}, which the gateway does not offer: plugins have no files, sockets or environment; build it \
                 for wasm32-unknown-unknown rather than for WASI (`tollgate plugin build` does)",
                foreign.join(", ")
            ));
        }
        if !unknown.is_empty() {
            return Err(format!(
                "it imports {} of {PACKAGE}@{VERSION}, which this gateway does not have: it was built for a newer one",
                unknown.join(", ")
            ));
        }
        if !missing.is_empty() {
            return Err(format!(
                "it imports what it was not granted: add {} to the plugin's `grants`, or use a build that does without",
                missing.join(", ")
            ));
        }
        Ok(())
    }

    fn check_exports(&self, settings: &PluginSettings) -> Result<(), String> {
        let exports = |interface: &str| {
            self.exports.iter().filter_map(|name| Named::read(name)).any(|named| named.interface == interface)
        };
        if !exports("lifecycle") {
            return Err(format!(
                "it does not export `lifecycle` of {PACKAGE}@{VERSION}, as every plugin does"
            ));
        }
        if !Interface::ALL.iter().any(|interface| exports(interface.as_str())) {
            let names = Interface::ALL.map(Interface::as_str).join(", ");
            return Err(format!("it exports nothing that it could be asked: one of {names} is wanted"));
        }
        if exports("guard") && !settings.grants(Capability::Prompt) {
            return Err("it is a guard, which reads the text of requests and answers: add `prompt` to the plugin's `grants`"
                .into());
        }
        Ok(())
    }
}

/// A name of the contract's package: `tollgate:plugin/log@0.1.0`.
struct Named<'a> {
    interface: &'a str,
    version: &'a str,
}

impl<'a> Named<'a> {
    fn read(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
        let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Self { interface, version })
    }

    /// As cargo has it: below 1.0, the second number breaks.
    fn speaks_our_version(&self) -> bool {
        fn line(version: &str) -> Option<&str> {
            version.rsplit_once('.').map(|(line, _)| line)
        }
        line(self.version) == line(VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(imports: &[&str], exports: &[&str], grants: &str) -> Result<(), String> {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let edge = Edge { imports: own(imports), exports: own(exports) };
        edge.check(&serde_yaml::from_str(&format!("{{ name: x, grants: {grants} }}")).unwrap())
    }

    #[test]
    fn what_was_not_granted_is_listed_with_what_to_do() {
        let ours = ["tollgate:plugin/lifecycle@0.1.0", "tollgate:plugin/functions@0.1.3"];
        let guard = ["tollgate:plugin/lifecycle@0.1.0", "tollgate:plugin/guard@0.1.0"];
        let cases: &[(&[&str], &[&str], &str, &str)] = &[
            (&["tollgate:plugin/types@0.1.0", "tollgate:plugin/log@0.1.0"], &ours, "[log]", ""),
            (
                &["tollgate:plugin/state@0.1.0", "tollgate:plugin/http@0.1.0"],
                &ours,
                "[log]",
                "add `state`, `http: [",
            ),
            (&["tollgate:plugin/http@0.1.0"], &ours, "[http: [a.test]]", ""),
            (
                &["wasi:cli/environment@0.2.0", "env"],
                &ours,
                "[]",
                "imports `wasi:cli/environment@0.2.0`, `env`",
            ),
            (&["tollgate:plugin/log@0.2.0"], &ours, "[log]", "built for tollgate:plugin@0.2.0"),
            (&[], &["tollgate:plugin/lifecycle@1.0.0"], "[log]", "built for tollgate:plugin@1.0.0"),
            (&["tollgate:plugin/files@0.1.9"], &ours, "[]", "newer one"),
            (&[], &ours[1..], "[]", "does not export `lifecycle`"),
            (&[], &ours[..1], "[]", "exports nothing that it could be asked"),
            (&[], &guard, "[log]", "add `prompt`"),
            (&[], &guard, "[prompt]", ""),
        ];
        for (imports, exports, grants, part) in cases {
            let result = check(imports, exports, grants);
            match &result {
                Ok(()) => assert!(part.is_empty(), "{imports:?} {exports:?}"),
                Err(error) => {
                    assert!(!part.is_empty() && error.contains(part), "{imports:?} {exports:?}: {error}")
                }
            }
        }
    }

    #[test]
    fn what_is_no_component_is_told_so() {
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"#!/bin/sh", "not a WebAssembly file"),
            (b"\0asm\x02\0\0\0", "another version"),
            (MODULE, "which world"),
            (b"\0asm\x01\0\0\0\xff\xff\xff", "not a WebAssembly module"),
        ] {
            let error = component(bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
