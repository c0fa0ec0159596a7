//! The host, tried with plugins made on the spot.

mod forge;
mod hostile;
mod loading;
mod streams;

use std::sync::Arc;

use crate::facts::Endpoint;
use crate::plugin::{
    Ask, Context, Plugin, PluginHost, PluginSet, PluginSettings, PluginSource, Segment, Services,
};

/// Loads one plugin without any cache.
fn load(yaml: &str, bytes: Vec<u8>) -> Arc<Plugin> {
    load_into(&PluginHost::new(Services::default(), None), yaml, bytes)
}

/// Loads one plugin that must be sound.
fn sound(yaml: &str, bytes: Vec<u8>) -> Arc<Plugin> {
    let plugin = load(yaml, bytes);
    assert_eq!(plugin.absent(), None);
    plugin
}

fn load_into(host: &PluginHost, yaml: &str, bytes: Vec<u8>) -> Arc<Plugin> {
    let set = PluginSet::load(host, vec![source(yaml, bytes)], None);
    Arc::clone(set.iter().next().unwrap())
}

fn source(yaml: &str, bytes: Vec<u8>) -> PluginSource {
    let settings: PluginSettings = serde_yaml::from_str(yaml).unwrap();
    PluginSource { file: format!("{}.wasm", settings.name).into(), settings, bytes: Ok(bytes) }
}

/// A request with these texts of the user.
fn asked(texts: &[&str]) -> Arc<Ask> {
    let segments = texts.iter().zip(0..).map(|(text, id)| Segment::user(id, "messages", *text)).collect();
    Arc::new(Ask { context: Context::new("r-1", Endpoint::Chat, "auto"), segments })
}
