//! The newcomer's path: the commands of `docs/plugins.md`, as they stand there, and the samples' cases in the sandbox.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GUIDE: &str = include_str!("../../docs/plugins.md");

#[test]
fn the_commands_of_the_guide_make_a_plugin() {
    let Some(toolchain) = toolchain() else { return };
    let folder = tempfile::tempdir().unwrap();
    let commands = commands("## Your first plugin, in ten minutes");
    assert!(
        commands.contains("tollgate plugin new") && commands.contains("tollgate plugin test"),
        "{commands}"
    );
    // What Rust makes of the SDK's dependencies is kept from one run to the next; nothing else is.
    let script = format!(
        "set -e\nexport CARGO_TARGET_DIR={}\n{toolchain}\n{commands}",
        quoted(&root().join("target/first-plugin"))
    );
    let told = shell(&script, folder.path());
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{commands}\n--- printed\n{out}\n{err}");
    for part in ["1 passed", "2 passed, 0 failed", "Says what a request is about"] {
        assert!(out.contains(part), "no `{part}` in\n{out}\n{err}");
    }
}

#[test]
fn the_cases_of_the_sample_plugins_hold_in_the_sandbox() {
    for folder in std::fs::read_dir(root().join("plugins")).unwrap().flatten() {
        let cases = folder.path().join("cases.yaml");
        let name = folder.file_name().to_string_lossy().into_owned();
        if !cases.exists() {
            continue;
        }
        if !root().join(format!("target/plugins/{name}.wasm")).exists() {
            skip(
                &format!("the cases of {name}: it is not built (plugins/build)"),
                name.ends_with("-js") || name.ends_with("-python"),
            );
            continue;
        }
        let told = shell(&format!("tollgate plugin test {}", quoted(&cases)), &root());
        let out = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success(), "{name}\n{out}\n{}", String::from_utf8_lossy(&told.stderr));
        assert!(out.contains(" passed, 0 failed"), "{out}");
    }
}

#[test]
fn a_plugin_in_c_is_made_built_and_tried() {
    let tools = root().join("target/toolchain/c/bin");
    let sdk = std::env::var("WASI_SDK_PATH").is_ok();
    let there = format!("PATH={}:$PATH; command -v wit-bindgen", quoted(&tools));
    let libc = Path::new("/usr/include/wasm32-wasi/stdlib.h").exists();
    if !(sdk || libc) || !shell(&there, &root()).status.success() {
        return skip("a plugin in C: no clang with wasi-libc, or no wit-bindgen (plugins/build c)", true);
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "set -e\nPATH={}:$PATH\ntollgate plugin new --lang c intent\ncd intent\n\
         cc -Wall -Wextra -Werror -o test_words.bin test_words.c words.c\n./test_words.bin\n\
         export XDG_CACHE_HOME=$PWD/compiled\n\
         tollgate plugin build\ntollgate plugin test\nfind compiled -type f | grep -q .\ntollgate plugin inspect intent.wasm --settings settings.yaml\n\
         echo 'config: 7' > bad.yaml\ntollgate plugin inspect intent.wasm --settings bad.yaml || true\n",
        quoted(&tools)
    );
    let told = shell(&script, folder.path());
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{out}\n{err}");
    for part in ["3 passed, 0 failed", "imports       nothing", "write labels and their words"] {
        assert!(out.contains(part) || err.contains(part), "no `{part}` in\n{out}\n{err}");
    }
}

/// Every line of the shell in a chapter of the guide.
fn commands(chapter: &str) -> String {
    let (_, text) = GUIDE.split_once(chapter).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// The shell's exports for a toolchain, where there is one.
fn toolchain() -> Option<String> {
    let told = Command::new(root().join("plugins/build")).arg("env").output().unwrap();
    if told.status.success() {
        // The story has a folder of its own for what is built.
        let exports = String::from_utf8(told.stdout).unwrap();
        return Some(
            exports.lines().filter(|line| !line.contains("CARGO_TARGET_DIR=")).collect::<Vec<_>>().join("\n"),
        );
    }
    skip(&format!("the guide's commands: {}", String::from_utf8_lossy(&told.stderr)), false);
    None
}

/// Says loudly what was not tried; a failure where everything must be.
fn skip(what: &str, may: bool) {
    eprintln!("SKIPPED: {what}");
    assert!(may || std::env::var("TOLLGATE_REQUIRE_WASM").as_deref() != Ok("1"), "{what}");
}

fn shell(script: &str, folder: &Path) -> Output {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_tollgate"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    // What stands in the compiler's place while the gate builds these tests is nothing for a plugin.
    bash.args(["-c", script]).current_dir(folder).env("PATH", path).env_remove("RUSTC_WORKSPACE_WRAPPER");
    bash.output().unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
