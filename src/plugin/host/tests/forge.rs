//! Makes plugins: core modules with fixed answers and a few misdeeds, and the types of the contract embedded.

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CONTRACT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/tollgate.wit"));
/// Where fixed answers begin in memory; below is the null page.
const FIXED: usize = 1024;
/// Where the memory for arguments begins.
const HEAP: usize = 32 << 10;

/// A plugin in the making.
pub(super) struct Forge {
    contract: String,
    world: String,
    imports: String,
    functions: String,
    data: Vec<u8>,
}

/// One word of a fixed answer.
pub(super) enum Word<'a> {
    /// A number, a tag, or a place.
    Number(u32),
    Float(f32),
    /// A text: two words.
    Text(&'a str),
}

use Word::{Number, Text};

impl Forge {
    /// A plugin that describes itself and whose `init` keeps its configuration.
    pub(super) fn new() -> Self {
        let mut forge = Self::bare();
        forge.init("(global.set $config (local.get 0)) (global.set $length (local.get 1)) (i32.const 1008)");
        forge
    }

    /// The same without `init`.
    pub(super) fn bare() -> Self {
        let mut forge = Self {
            contract: CONTRACT.to_owned(),
            world: "export lifecycle;".to_owned(),
            imports: String::new(),
            functions: String::new(),
            data: Vec::new(),
        };
        let needs = 0b1111;
        let manifest = forge.fixed(&[Text("forged"), Text("1.0"), Text("a test"), Number(needs)]);
        forge.function("lifecycle", "describe", "(result i32)", &format!("(i32.const {manifest})"));
        forge
    }

    /// For a contract of another version.
    pub(super) fn version(mut self, version: &str) -> Self {
        self.contract = self.contract.replace("0.1.0", version);
        self.functions = self.functions.replace("0.1.0", version);
        self.imports = self.imports.replace("0.1.0", version);
        self
    }

    /// What `init` does; its result is the place of a `result<_, string>`. At 1008 there are words of zero: `ok`.
    pub(super) fn init(&mut self, body: &str) -> &mut Self {
        self.function("lifecycle", "init", "(param i32 i32) (result i32)", body)
    }

    /// Adds an interface to the world's exports.
    pub(super) fn exports(&mut self, interface: &str) -> &mut Self {
        self.world.push_str(&format!(" export {interface};"));
        self
    }

    /// Imports a function, `$name` in the code.
    pub(super) fn imports(&mut self, interface: &str, name: &str, types: &str) -> &mut Self {
        self.world.push_str(&format!(" import {interface};"));
        let import =
            format!(r#"(import "tollgate:plugin/{interface}@0.1.0" "{name}" (func ${name} {types}))"#);
        self.import(&import)
    }

    /// Adds an import as WebAssembly text.
    pub(super) fn import(&mut self, import: &str) -> &mut Self {
        self.imports.push_str(import);
        self
    }

    /// Exports a function of the contract.
    pub(super) fn function(&mut self, interface: &str, name: &str, types: &str, body: &str) -> &mut Self {
        self.functions.push_str(&format!(
            r#"(func (export "tollgate:plugin/{interface}@0.1.0#{name}") {types} {body})"#
        ));
        self
    }

    /// Adds code of its own.
    pub(super) fn code(&mut self, code: &str) -> &mut Self {
        self.functions.push_str(code);
        self
    }

    /// Puts words into memory and returns their place.
    pub(super) fn fixed(&mut self, words: &[Word<'_>]) -> u32 {
        let mut image = Vec::new();
        for word in words {
            match word {
                Number(number) => image.extend(number.to_le_bytes()),
                Word::Float(float) => image.extend(float.to_le_bytes()),
                Text(text) => {
                    let (place, length) = (self.place(text.as_bytes()), u32::try_from(text.len()).unwrap());
                    image.extend(place.to_le_bytes());
                    image.extend(length.to_le_bytes());
                }
            }
        }
        self.place(&image)
    }

    fn place(&mut self, bytes: &[u8]) -> u32 {
        let place = FIXED + self.data.len();
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        u32::try_from(place).unwrap()
    }

    /// The core module with the types of its world.
    pub(super) fn module(&self) -> Vec<u8> {
        assert!(FIXED + self.data.len() < HEAP);
        let data: String = self.data.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let text = format!(
            r#"(module {imports}
                (memory (export "memory") 4)
                (global $next (mut i32) (i32.const {HEAP}))
                (global $config (mut i32) (i32.const 0))
                (global $length (mut i32) (i32.const 0))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.set $next (i32.add (local.get $at) (local.get 3)))
                    (block $fits
                        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                        (br_if $fits (i32.ne (i32.const -1)
                            (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16))))))
                        unreachable)
                    (local.get $at))
                {functions}
                (data (i32.const {FIXED}) "{data}"))"#,
            imports = self.imports,
            functions = self.functions,
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut resolve = Resolve::default();
        let contract = format!("{}\nworld forged {{ {} }}", self.contract, self.world);
        let package = resolve.push_str("forged.wit", &contract).unwrap();
        let world = resolve.select_world(&[package], Some("forged")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }
}

/// A plugin whose functions do what their names begin with: `e`cho, `c`ount its calls, `g`ive its configuration, `f`ail,
/// `u`nsupported, and the misdeeds `l`oop, `t`rap, `m`emory, `r`ecursion, `h`uge answer, `w`ild answer.
pub(super) fn toolbox() -> Forge {
    let mut forge = Forge::new();
    add_toolbox(&mut forge);
    forge
}

/// Adds the functions of [`toolbox`].
pub(super) fn add_toolbox(forge: &mut Forge) {
    let names = [
        "echo",
        "count",
        "give",
        "fail",
        "unsupported",
        "loop",
        "trap",
        "memory",
        "recursion",
        "huge",
        "wild",
    ];
    let docs: Vec<_> = names.iter().flat_map(|name| [Text(name), Text("as its name says")]).collect();
    let docs = forge.fixed(&docs);
    let signatures = forge.fixed(&[Number(docs), Number(u32::try_from(names.len()).unwrap())]);
    let fail = forge.fixed(&[Number(1), Number(2), Text("out of sorts")]);
    let unsupported = forge.fixed(&[Number(1), Number(0), Text("not in my language")]);
    let answer = forge.fixed(&[0; 4].map(Number));
    let counted = forge.fixed(&[Number(u32::from(b'0'))]);
    forge.exports("functions");
    forge.function("functions", "signatures", "(result i32)", &format!("(i32.const {signatures})"));
    let case = |letter: char, body: &str| {
        format!("(if (i32.eq (local.get $letter) (i32.const {})) (then {body}))", letter as u32)
    };
    let say = |place: &str, length: &str| {
        format!(
            "(i32.store (i32.const {}) {place}) (i32.store (i32.const {}) {length}) (return (i32.const {answer}))",
            answer + 4,
            answer + 8
        )
    };
    let count = format!(
        "(i32.store8 (i32.const {counted}) (i32.add (i32.load8_u (i32.const {counted})) (i32.const 1))) {}",
        say(&format!("(i32.const {counted})"), "(i32.const 1)")
    );
    let huge =
        format!("(drop (memory.grow (i32.const 1600))) {}", say("(i32.const 0)", "(i32.const 100000000)"));
    let body = [
        "(local $letter i32) (local.set $letter (i32.load8_u (local.get 0)))".to_owned(),
        case('e', &say("(local.get 2)", "(local.get 3)")),
        case('c', &count),
        case('g', &say("(global.get $config)", "(global.get $length)")),
        case('f', &format!("(return (i32.const {fail}))")),
        case('u', &format!("(return (i32.const {unsupported}))")),
        case('l', "(loop $again (br $again))"),
        case('t', "unreachable"),
        case('m', "(if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable))"),
        case('r', "(drop (call $deeper (i32.const 0)))"),
        case('h', &huge),
        case('w', &say("(i32.const -16)", "(i32.const 64)")),
        format!("(i32.const {unsupported})"),
    ];
    forge.function("functions", "call", "(param i32 i32 i32 i32) (result i32)", &body.concat());
    forge
        .code("(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))");
}
