# Everything .ci/run checks: lints, tests, dependencies, conformance, clients, backends.
ci:
    .ci/run

test:
    cargo test

lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# Serve the demo on 127.0.0.1:8080.
run *arguments:
    cargo run --release -- {{ arguments }}

bench *arguments:
    cargo bench {{ arguments }}

# Kill the gateway under load, twenty times; the audit log must hold.
kill:
    cargo build
    python3 .ci/long/kill.py
