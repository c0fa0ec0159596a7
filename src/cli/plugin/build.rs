//! `tollgate plugin build`: one command for every language, over each language's own tools.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::plugin;

const TARGET: &str = "wasm32-unknown-unknown";
/// As `wit/world.wit` of a new plugin calls its world.
const WORLD: &str = "plugin";
/// Where Debian's wasi-libc has its headers.
const LIBRARY_OF_C: &str = "/usr/include/wasm32-wasi";

/// Which folder to build.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Build {
    /// The plugin's folder: with Cargo.toml, package.json, requirements.txt, or files of C beside wit/world.wit.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where to write the component; by default NAME.wasm in the folder.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Build {
    /// Builds the folder, and proves that what came of it is a plugin.
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let folder =
            self.folder.canonicalize().map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let has = |file: &str| folder.join(file).is_file();
        let made = if has("Cargo.toml") {
            rust(&folder)?
        } else if has("package.json") {
            js(&folder)?
        } else if has("requirements.txt") {
            python(&folder)?
        } else if has("wit/world.wit") && !sources_of_c(&folder)?.is_empty() {
            c(&folder)?
        } else {
            return Err(format!(
                "{}: there is no Cargo.toml, package.json, requirements.txt, nor any *.c with wit/world.wit: it is no plugin's folder",
                folder.display()
            ));
        };
        let bytes = fs::read(&made).map_err(|error| format!("{}: {error}", made.display()))?;
        let examined = plugin::examine(&bytes).map_err(|error| format!("{}: {error}", made.display()))?;
        let name =
            folder.file_name().map_or_else(|| "plugin".into(), |name| name.to_string_lossy().into_owned());
        let out = self.out.unwrap_or_else(|| folder.join(format!("{name}.wasm")));
        // Written aside and renamed, so that a gateway that watches the folder never sees a half.
        let aside = out.with_extension("wasm.part");
        let written = fs::write(&aside, &examined.component).and_then(|()| fs::rename(&aside, &out));
        written.map_err(|error| format!("{}: {error}", out.display()))?;
        println!("{} ({} bytes): {}", out.display(), examined.component.len(), examined.exports.join(", "));
        Ok(ExitCode::SUCCESS)
    }
}

/// Cargo, for a target without an operating system.
fn rust(folder: &Path) -> Result<PathBuf, String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let ready = env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some() || has_target(folder);
    if !ready {
        return Err(format!("rust's target {TARGET} is not installed: run `rustup target add {TARGET}`"));
    }
    let manifest = folder.join("Cargo.toml");
    let told = output(Command::new(&cargo).current_dir(folder).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&told).map_err(|error| format!("cargo metadata: {error}"))?;
    let package = metadata["packages"].as_array().into_iter().flatten();
    let package = package
        .into_iter()
        .find(|package| package["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest));
    let library = package.and_then(|package| package["targets"].as_array()).into_iter().flatten();
    let library = library.into_iter().find(|target| target["crate_types"].to_string().contains("cdylib"));
    let name = library.and_then(|library| library["name"].as_str()).ok_or_else(|| {
        format!("{}: the package has no library with `crate-type = [\"cdylib\"]`", manifest.display())
    })?;
    run(Command::new(&cargo).current_dir(folder).args(["build", "--release", "--target", TARGET]))?;
    let target = metadata["target_directory"].as_str().unwrap_or("target");
    Ok(Path::new(target).join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_"))))
}

fn has_target(folder: &Path) -> bool {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let told = output(Command::new(rustc).current_dir(folder).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]));
    told.is_ok_and(|path| Path::new(String::from_utf8_lossy(&path).trim()).is_dir())
}

/// jco, with the JavaScript engine QuickJS.
fn js(folder: &Path) -> Result<PathBuf, String> {
    let jco = folder.join("node_modules/.bin/jco");
    if !jco.exists() {
        run(Command::new("npm").current_dir(folder).args(["install", "--no-audit", "--no-fund"]))?;
    }
    let made = folder.join("target/plugin.wasm");
    fs::create_dir_all(folder.join("target")).map_err(|error| format!("target: {error}"))?;
    let (source, wit) = (folder.join("plugin.js"), folder.join("wit"));
    let command = &mut Command::new(jco);
    command.current_dir(folder).arg("componentize").arg(source).arg("--wit").arg(wit);
    command.args([
        "--world-name",
        WORLD,
        "--backend",
        "qjs",
        "--backend-qjs-disable-async",
        "--backend-qjs-stub-wasi",
    ]);
    run(command.arg("-o").arg(&made))?;
    Ok(made)
}

/// componentize-py, in an environment of the folder's own.
fn python(folder: &Path) -> Result<PathBuf, String> {
    let bin = folder.join(".venv/bin");
    if !bin.join("componentize-py").exists() {
        run(Command::new("python3").current_dir(folder).args(["-m", "venv", ".venv"]))?;
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run(Command::new(bin.join("python")).current_dir(folder).args(pip))?;
    }
    let made = folder.join("target/plugin.wasm");
    fs::create_dir_all(folder.join("target")).map_err(|error| format!("target: {error}"))?;
    let arguments = [
        "-d",
        "wit",
        "-w",
        WORLD,
        "componentize",
        "-p",
        ".",
        "--stub-wasi",
        "plugin",
        "-o",
        "target/plugin.wasm",
    ];
    run(Command::new(bin.join("componentize-py")).current_dir(folder).args(arguments))?;
    Ok(made)
}

/// clang with the C library of WASI, of which nothing may be left that asks for an operating system.
fn c(folder: &Path) -> Result<PathBuf, String> {
    let sdk = env::var_os("WASI_SDK_PATH").map(PathBuf::from);
    if sdk.is_none() && !Path::new(LIBRARY_OF_C).is_dir() {
        let packages =
            "install Debian's packages clang, lld and wasi-libc, or set WASI_SDK_PATH to a wasi-sdk";
        return Err(format!("there is no C library for WebAssembly in {LIBRARY_OF_C}: {packages}"));
    }
    let bindings = ["c", "wit", "--world", WORLD, "--out-dir", "target"];
    run(Command::new("wit-bindgen").current_dir(folder).args(bindings)).map_err(|error| {
        let install =
            "cargo install wit-bindgen-cli --version 0.57.1 --locked --no-default-features --features c";
        if error.contains("cannot be run") { format!("{error} `{install}` installs it") } else { error }
    })?;
    let made = folder.join("target/plugin.wasm");
    let clang = sdk.map_or_else(|| "clang".into(), |sdk| sdk.join("bin/clang"));
    let compile = &mut Command::new(clang);
    let flags = ["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-Wall", "-Itarget"];
    compile.current_dir(folder).args(flags).args(sources_of_c(folder)?);
    run(compile.args(["target/plugin.c", "target/plugin_component_type.o", "-o"]).arg(&made))?;
    Ok(made)
}

/// All of a folder's files of C, but its tests.
fn sources_of_c(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let files = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = files.flatten().map(|file| PathBuf::from(file.file_name()));
    let is_source = |name: &PathBuf| {
        let is_test = name.to_string_lossy().starts_with("test_");
        name.extension().is_some_and(|ending| ending == "c") && !is_test
    };
    let mut sources: Vec<_> = names.filter(is_source).collect();
    sources.sort();
    Ok(sources)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} failed: {status}")),
        Err(error) => Err(format!("{program} cannot be run: {error}: is it installed?")),
    }
}

fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let told =
        command.output().map_err(|error| format!("{program} cannot be run: {error}: is it installed?"))?;
    if told.status.success() {
        Ok(told.stdout)
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&told.stderr).trim()))
    }
}
