//! The Python client's own tests, which read the same vectors.

use std::path::Path;
use std::process::Command;

#[test]
fn the_python_client_passes_its_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python");
    let supported = "import sys; sys.exit(sys.version_info < (3, 8))";
    if !Command::new("python3").args(["-c", supported]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIP the_python_client_passes_its_tests: no python3 of at least 3.8");
        return;
    }
    let output = Command::new("python3")
        .args(["-W", "error", "-m", "unittest", "discover", "-s", "tests"])
        .current_dir(&folder)
        .env("PYTHONPATH", folder.join("src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    assert!(!report.contains("Ran 0 tests"), "{report}");
}
