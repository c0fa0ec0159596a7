//! Files that only narrow what others choose, and stand behind files that choose: where these do, nobody asks them.

use rhai::{AST, ASTNode, Engine, Expr, Position, Stmt};

use super::vocabulary::{self, Form};
use super::{PolicyError, Source};

/// Methods of a request that hold whoever answers.
const NARROWING: [&str; 6] = ["require", "avoid", "redact", "redact_output", "cap_output", "stop_on"];

/// Places where something is required that does not hold for all requests, though nothing in the file says so.
pub fn unheard(sources: &[Source]) -> Vec<PolicyError> {
    let mut found = Vec::new();
    let mut before: Option<&str> = None;
    let engine = Engine::new_raw();
    // Files in folders are imported by others, or tests.
    for source in sources.iter().filter(|source| !source.name.contains('/')) {
        let ast = engine.compile(&source.text).unwrap_or_default();
        let said = Said::of(&ast);
        match (said.narrowing, before) {
            (Some((name, at)), Some(before)) if !said.may_choose && !said.has_later_hooks => {
                let message = format!(
                    "`{name}` does not hold for requests that `{before}` decides: the first verdict wins, and no file behind it is asked; what must hold always stands in a file in front of it"
                );
                found.push(PolicyError::new(&source.path, at, message));
            }
            _ => {}
        }
        if said.may_choose && before.is_none() {
            before = Some(&source.name);
        }
    }
    found
}

/// What a file says, as far as that can be read without running it.
#[derive(Default)]
struct Said {
    narrowing: Option<(&'static str, Position)>,
    may_choose: bool,
    /// It narrows what is left of a plan, too.
    has_later_hooks: bool,
}

impl Said {
    fn of(ast: &AST) -> Self {
        let mut said =
            Self { has_later_hooks: ast.iter_functions().any(|f| f.name == "on_error"), ..Self::default() };
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
                    said.may_choose |= !call.namespace.is_empty() || gives_a_target(&call.name)
                }
                Some(ASTNode::Expr(Expr::MethodCall(call, at))) => {
                    // A router plugin.
                    said.may_choose |= call.name == "route";
                    let narrowing = NARROWING.into_iter().find(|name| *name == call.name.as_str());
                    said.narrowing = said.narrowing.or(narrowing.map(|name| (name, *at)));
                }
                _ => {}
            }
            true
        });
        said
    }
}

/// Whether a word makes a verdict by which somebody answers.
fn gives_a_target(name: &str) -> bool {
    vocabulary::named(name)
        .any(|word| word.form == Form::Function && ["Route", "Response"].contains(&word.gives.word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_protects_stands_in_front() {
        let source = |name: &str, text: &str| Source {
            name: name.to_owned(),
            path: format!("policies/{name}.rhai").into(),
            text: text.to_owned(),
        };
        let eu = "fn on_request(req) { if req.team == \"hr\" { req.require(#{ region: \"eu\" }); } }";
        let tiers = "fn on_request(req) { if req.stream { return cheapest(\"chat\"); } }";
        let own = "fn on_request(req) { if req.stream { req.cap_output(9); return route(\"chat\"); } }";
        let bouncer = "fn on_request(req) { if req.stream { return reject(403, \"a\", \"b\"); } }";
        for (files, expected) in [
            (vec![("05-eu", eu), ("10-tiers", tiers)], None),
            (
                vec![("10-tiers", tiers), ("90-eu", eu)],
                Some(
                    "policies/90-eu.rhai:1:48: `require` does not hold for requests that `10-tiers` decides",
                ),
            ),
            (vec![("10-tiers", tiers), ("20-own", own)], None),
            (vec![("01-bouncer", bouncer), ("05-eu", eu)], None),
            (vec![("lib/tiers", tiers), ("90-eu", eu)], None),
            (vec![("10-tiers", tiers), ("90-eu", "fn on_request(req) {")], None),
        ] {
            let sources: Vec<_> = files.iter().map(|(name, text)| source(name, text)).collect();
            let found: Vec<_> = unheard(&sources).iter().map(ToString::to_string).collect();
            let is_right = match expected {
                None => found.is_empty(),
                Some(expected) => found.len() == 1 && found[0].starts_with(expected),
            };
            assert!(is_right, "{files:?}: {found:?}");
        }
    }
}
