# One command a line; `just` lists them.

_default:
    @just --list --unsorted

# Run everything that must pass; `just test NAME` runs the tests whose name contains it
test *arguments:
    ./test {{arguments}}

# Kill the daemon 200 times at seeded moments of runs; `AEGIS_CRASH_SEED=N just crash` replays a sweep
crash kills="200":
    cargo build -p aegis
    AEGIS_CRASH_KILLS={{kills}} cargo test -p aegis-e2e kill_9 -- --nocapture

# Let 200 runs go at once and stop the daemon in the midst of 50; prints times and the daemon's peak memory
load runs="200":
    cargo build -p aegis
    AEGIS_LOAD_RUNS={{runs}} cargo test -p aegis-e2e load:: -- --nocapture --test-threads 1

# Report lints of all targets as errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Format all code
fmt:
    cargo fmt --all

# Check crate edges, sizes, names, `unsafe` and generated files
tidy:
    cargo xtask tidy

# Write the generated files: schemas and reference pages
generate:
    cargo xtask generate

# Print what this machine lacks
probe *arguments:
    cargo xtask probe {{arguments}}

# Check licences, banned crates and sources of the dependencies
deny:
    @cargo deny --version >/dev/null 2>&1 || { echo 'cargo-deny is missing. Run: cargo install cargo-deny --locked --version 0.20.2' >&2; exit 1; }
    cargo deny check bans licenses sources

# Change what decides bit by bit, and see that a test notices each time; `just mutants -f FILE` takes one file alone
mutants *arguments:
    @cargo mutants --version >/dev/null 2>&1 || { echo 'cargo-mutants is missing. Run: cargo install cargo-mutants --locked --version 27.1.0' >&2; exit 1; }
    CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 \
        nice -n 19 cargo mutants -j 1 --no-shuffle --output "${CARGO_TARGET_DIR:-target}/mutants" {{arguments}}

# Build, start and show AEGIS on this machine
quickstart *arguments:
    ./quickstart {{arguments}}

# Renew the recordings of examples/two-iterations
record:
    cargo build -p aegis
    cargo run --quiet -p aegis-e2e --example record

# Measure speed and memory beside baselines; raw data goes to target/bench
bench:
    cargo build --release -p aegis
    cargo bench -p aegis-e2e --bench node
    AEGIS_BENCH_PASSES=20000 cargo test --release --quiet -p aegis-kernel --lib monitor::speed -- --nocapture
    cargo bench -p aegis-security --bench smcp
    cargo bench -p aegis-sandbox --bench launch
    cargo bench -p aegis-store --bench journal
