//! What a request asks for, in no dialect.

use serde_json::Value;

/// A request as a person would tell it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub system: String,
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    pub choice: Option<Choice>,
    pub limit: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub stops: Vec<String>,
    /// The schema that the answer must follow.
    pub schema: Option<Value>,
}

/// What one side says until the other speaks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    pub model: bool,
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Text(String),
    Call {
        id: String,
        name: String,
        input: Value,
    },
    Result {
        id: String,
        text: String,
    },
    /// Inline bytes.
    Media {
        mime: String,
        base64: String,
    },
    Link(String),
    /// Thinking, with its proof.
    Thought {
        text: String,
        proof: String,
    },
    /// What only its own dialect can say.
    Own(String),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// Names of the parameters.
    pub schema: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    Auto,
    None,
    Any,
    Named(String),
}

impl Asked {
    /// A plain question.
    pub fn hello() -> Self {
        let turn = Turn { model: false, items: vec![Item::Text("hello".into())] };
        Self { turns: vec![turn], limit: Some(500), ..Self::default() }
    }

    pub fn say(&mut self, model: bool, items: Vec<Item>) {
        match self.turns.last_mut() {
            Some(turn) if turn.model == model => turn.items.extend(items),
            _ => self.turns.push(Turn { model, items }),
        }
    }

    /// The request without what dialects say in different ways: ids by order of appearance, neighbouring texts as one,
    /// schemas as the names and types of their fields.
    #[must_use]
    pub fn plain(mut self) -> Self {
        let mut ids: Vec<String> = Vec::new();
        let mut turns: Vec<Turn> = Vec::new();
        for turn in std::mem::take(&mut self.turns) {
            let items: Vec<Item> =
                turn.items.into_iter().filter_map(|item| plain_item(item, &mut ids)).collect();
            // Empty turns say nothing; two of one side are one.
            match turns.last_mut() {
                _ if items.is_empty() => {}
                Some(last) if last.model == turn.model => last.items.extend(items),
                _ => turns.push(Turn { model: turn.model, items }),
            }
        }
        for turn in &mut turns {
            // Results before words, whatever the order of the dialect.
            turn.items.sort_by_key(|item| match item {
                Item::Result { .. } => 0,
                _ => 1,
            });
            let mut merged: Vec<Item> = Vec::new();
            for item in turn.items.drain(..) {
                match (merged.last_mut(), item) {
                    (Some(Item::Text(last)), Item::Text(more)) => {
                        last.push('\n');
                        last.push_str(&more);
                    }
                    (_, item) => merged.push(item),
                }
            }
            // Calls stand behind words in OpenAI's dialect, anywhere in others.
            merged.sort_by_key(|item| u8::from(matches!(item, Item::Call { .. })));
            turn.items = merged;
        }
        self.turns = turns;
        self.system = squeezed(&self.system);
        for tool in &mut self.tools {
            tool.schema = Value::from(fields(&tool.schema));
        }
        self.tools.sort_by(|a, b| a.name.cmp(&b.name));
        self.schema = self.schema.as_ref().map(|schema| Value::from(fields(schema)));
        self.choice = self.choice.filter(|choice| *choice != Choice::Auto && !self.tools.is_empty());
        self
    }
}

fn plain_item(item: Item, ids: &mut Vec<String>) -> Option<Item> {
    let mut place = |id: String| {
        let at = ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            ids.push(id);
            ids.len() - 1
        });
        format!("#{at}")
    };
    Some(match item {
        Item::Text(text) if text.trim().is_empty() => return None,
        Item::Text(text) => Item::Text(squeezed(&text)),
        Item::Call { id, name, input } => Item::Call { id: place(id), name, input },
        Item::Result { id, text } => Item::Result { id: place(id), text: compact(&text) },
        Item::Thought { .. } | Item::Own(_) => return None,
        Item::Media { mime, base64 } => {
            let base64 = base64.replace('-', "+").replace('_', "/").trim_end_matches('=').to_owned();
            Item::Media { mime: mime.replace("jpg", "jpeg").replace("audio/mpeg", "audio/mp3"), base64 }
        }
        link @ Item::Link(_) => link,
    })
}

fn squeezed(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// JSON without its white space and order of fields, so that the same result is the same text; `output` and the like,
/// in which Google wraps texts, are taken off.
fn compact(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => {
            let wrapped = ["output", "result", "error"].iter().find_map(|key| object.get(*key));
            if let (1, Some(inner)) = (object.len(), wrapped) {
                return compact(&inner.as_str().map_or_else(|| inner.to_string(), str::to_owned));
            }
            let sorted: std::collections::BTreeMap<_, _> = object.into_iter().collect();
            serde_json::to_string(&sorted).unwrap()
        }
        Ok(Value::String(text)) => squeezed(&text),
        _ => squeezed(text),
    }
}

/// Paths and types of all properties of a schema.
fn fields(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, schema, "", 0, &mut found);
    found.sort();
    found
}

fn walk(schema: &Value, root: &Value, path: &str, depth: usize, found: &mut Vec<String>) {
    if depth > 6 {
        return;
    }
    if let Some(target) = schema["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#')))
    {
        return walk(target, root, path, depth + 1, found);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let kind = match &inner["type"] {
            Value::String(kind) => kind.to_lowercase(),
            Value::Array(kinds) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null")
                .unwrap_or_default()
                .to_lowercase(),
            _ => String::new(),
        };
        found.push(format!("{path}:{kind}"));
        walk(inner, root, &path, depth + 1, found);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], root, &format!("{path}[]"), depth + 1, found);
    }
}
