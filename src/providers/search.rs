//! A search of the web, which several providers run themselves: what a client asks of it, in the words of each.

use serde_json::{Value, json};

use crate::chat::{Object, Tool, ToolKind};

/// OpenAI's chat asks for a search beside the tools.
pub const OPTIONS: &str = "web_search_options";

/// Google's names of the tool.
const GOOGLES: [&str; 2] = ["googleSearch", "google_search"];

/// The version of Anthropic's tool that asks for nothing beside the search:
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool>
const ANTHROPICS: &str = "web_search_20250305";

/// What all names of the tool have in them, in lower case.
const NAMES: [&str; 3] = ["web_search", "googlesearch", "google_search"];

/// What is said of the user's place.
const PLACE: [&str; 4] = ["country", "region", "city", "timezone"];

/// A search as a client asks for it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Search<'a> {
    allowed: Option<&'a Value>,
    blocked: Option<&'a Value>,
    /// Where the user is, roughly.
    place: Option<Object>,
    /// How much of what is found shall be read.
    size: Option<&'a Value>,
    /// Settings that one dialect alone knows.
    others: Vec<&'a str>,
}

impl<'a> Search<'a> {
    /// The search that a tool of Anthropic's, of OpenAI's Responses or of Google's is; `None` for any other tool.
    pub(super) fn of(tool: &'a Tool) -> Option<Self> {
        if tool.kind != ToolKind::Server {
            return None;
        }
        if let Some(settings) = GOOGLES.iter().find_map(|name| tool.rest.get(*name)) {
            let others =
                settings.as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
            return Some(Self { others, ..Self::default() });
        }
        let kind = tool.rest.get("type")?.as_str()?;
        kind.starts_with("web_search").then(|| Self::read(&tool.rest))
    }

    /// The search that the fields of such a tool ask for, or OpenAI's `web_search_options`.
    pub(super) fn read(fields: &'a Object) -> Self {
        let mut search = Self::default();
        for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match (&**field, value) {
                ("type" | "name", _) => {}
                ("allowed_domains", _) => search.allowed = Some(value),
                ("blocked_domains", _) => search.blocked = Some(value),
                ("filters", Value::Object(filters)) => {
                    search.allowed = filters.get("allowed_domains").filter(|domains| !domains.is_null());
                    search.blocked = filters.get("blocked_domains").filter(|domains| !domains.is_null());
                }
                ("user_location", _) => search.place = place(value),
                ("search_context_size", _) => search.size = Some(value),
                (other, _) => search.others.push(other),
            }
        }
        search
    }

    /// Anthropic's tool, and the settings that it does not know.
    pub(super) fn for_anthropic(self) -> (Value, Vec<&'a str>) {
        let mut tool = json!({ "type": ANTHROPICS, "name": "web_search" });
        let mut put = |field: &str, value: Value| tool[field] = value;
        self.allowed.into_iter().for_each(|domains| put("allowed_domains", domains.clone()));
        self.blocked.into_iter().for_each(|domains| put("blocked_domains", domains.clone()));
        self.place.into_iter().for_each(|place| put("user_location", Value::Object(place)));
        let mut lost = self.others;
        lost.extend(self.size.filter(|size| **size != "medium").map(|_| "search_context_size"));
        (tool, lost)
    }

    /// The tool of OpenAI's Responses, and the settings that it does not know.
    pub(super) fn for_openai(self) -> (Value, Vec<&'a str>) {
        let mut tool = json!({ "type": "web_search" });
        let mut put = |field: &str, value: Value| tool[field] = value;
        self.allowed.into_iter().for_each(|domains| put("filters", json!({ "allowed_domains": domains })));
        self.place.into_iter().for_each(|place| put("user_location", Value::Object(place)));
        self.size.into_iter().for_each(|size| put("search_context_size", size.clone()));
        let mut lost = self.others;
        lost.extend(self.blocked.map(|_| "blocked_domains"));
        (tool, lost)
    }
}

/// How often the tools of a request, as JSON text, can search the web; `unlimited` times for each that sets no limit.
pub fn at_most(tools: &str, unlimited: u64) -> u64 {
    let names = |text: &str| NAMES.iter().any(|name| text.contains(name));
    if !names(&tools.to_ascii_lowercase()) {
        return 0;
    }
    let tools: Vec<Object> = serde_json::from_str(tools).unwrap_or_default();
    let is_search = |tool: &&Object| {
        let kind = tool.get("type").and_then(Value::as_str);
        kind.is_some_and(names) || tool.keys().any(|key| names(&key.to_ascii_lowercase()))
    };
    let most = |tool: &Object| tool.get("max_uses").and_then(Value::as_u64).unwrap_or(unlimited);
    tools.iter().filter(is_search).map(most).fold(0, u64::saturating_add)
}

/// A place, which OpenAI's chat nests once more.
fn place(value: &Value) -> Option<Object> {
    let said = value.get("approximate").unwrap_or(value);
    let mut place = Object::new();
    place.insert("type".into(), "approximate".into());
    let known = PLACE.iter().filter_map(|field| Some(((*field).to_owned(), said.get(*field)?.clone())));
    place.extend(known.filter(|(_, value)| !value.is_null()));
    (place.len() > 1).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(rest: &Value) -> Tool {
        Tool {
            name: "web_search".into(),
            description: None,
            parameters: None,
            strict: None,
            kind: ToolKind::Server,
            cache: None,
            rest: rest.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn a_search_is_asked_for_in_the_words_of_each() {
        let place = json!({"type": "approximate", "country": "DE", "city": "Berlin"});
        let anthropics = json!({"type": "web_search_20260318", "name": "web_search", "max_uses": 3,
            "allowed_domains": ["a.example"], "user_location": place});
        let blocking =
            json!({"type": "web_search_20250305", "name": "web_search", "blocked_domains": ["b.example"]});
        let openais = json!({"type": "web_search", "search_context_size": "low", "user_location": place,
            "filters": {"allowed_domains": ["a.example"]}});
        let plain = json!({"type": "web_search_20250305", "name": "web_search"});
        let with_domains = json!({"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.example"],
            "user_location": place});
        let filters = json!({"allowed_domains": ["a.example"]});
        for (rest, anthropic, not_there, openai, not_here) in [
            (
                &anthropics,
                &with_domains,
                &["max_uses"][..],
                json!({"type": "web_search", "filters": filters, "user_location": place}),
                &["max_uses"][..],
            ),
            (&blocking, &blocking, &[], json!({"type": "web_search"}), &["blocked_domains"]),
            (
                &openais,
                &with_domains,
                &["search_context_size"],
                json!({"type": "web_search", "filters": filters, "user_location": place, "search_context_size": "low"}),
                &[],
            ),
            (
                &json!({"googleSearch": {"timeRangeFilter": {}}}),
                &plain,
                &["timeRangeFilter"],
                json!({"type": "web_search"}),
                &["timeRangeFilter"],
            ),
            (&json!({"type": "web_search_preview"}), &plain, &[], json!({"type": "web_search"}), &[]),
        ] {
            let tool = tool(rest);
            let read = || Search::of(&tool).unwrap();
            assert_eq!(read().for_anthropic(), (anthropic.clone(), not_there.to_vec()), "{rest}");
            assert_eq!(read().for_openai(), (openai, not_here.to_vec()), "{rest}");
        }
        for rest in [json!({"type": "web_fetch_20250910"}), json!({"urlContext": {}}), json!({"type": "mcp"})]
        {
            assert_eq!(Search::of(&tool(&rest)), None, "{rest}");
        }
    }

    #[test]
    fn searches_are_counted_by_the_tools_that_make_them() {
        for (tools, most) in [
            (r#"[{"type":"function","function":{"name":"web_search"}}]"#, 0),
            (r#"[{"type":"web_search_20260318","name":"web_search","max_uses":3}]"#, 3),
            (r#"[{"type":"web_search"},{"type":"function","name":"f"}]"#, 10),
            (r#"[{"googleSearch":{}},{"functionDeclarations":[]}]"#, 10),
            (r#"[{"google_search_retrieval":{}}]"#, 10),
            (
                r#"[{"type":"web_search_preview","max_uses":18446744073709551615},{"type":"web_search"}]"#,
                u64::MAX,
            ),
            (r#"{"web_search":1}"#, 0),
        ] {
            assert_eq!(at_most(tools, 10), most, "{tools}");
        }
    }

    #[test]
    fn options_of_chat_nest_the_place() {
        let options = json!({"search_context_size": "medium", "user_location": {"type": "approximate",
            "approximate": {"country": "DE", "city": null}}});
        let (told, lost) = Search::read(options.as_object().unwrap()).for_anthropic();
        assert_eq!(told["user_location"], json!({"type": "approximate", "country": "DE"}));
        assert_eq!(lost, Vec::<&str>::new());
    }
}
