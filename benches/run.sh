# Sourced by build.sh: the measurements. Each group prints a table and writes target/bench/GROUP.json.

readonly BENCH_GROUPS=(wasm connect propagation browser)

run_benches() {
  local groups=("$@") group
  [ ${#groups[@]} -gt 0 ] || groups=("${BENCH_GROUPS[@]}")
  for group in "${groups[@]}"; do
    [[ " ${BENCH_GROUPS[*]} " == *" $group "* ]] || fail "no bench group \"$group\"; there are: ${BENCH_GROUPS[*]}"
  done
  setup
  mkdir -p target/bench
  for group in "${groups[@]}"; do
    say "measuring: $group"
    "bench_$group"
    say "   figures: target/bench/$group.json"
  done
}

bench_wasm() {
  package wasm
  node js/size.mjs
}

bench_connect() { native_bench connect; }
bench_propagation() { native_bench propagation; }

native_bench() {
  timed "building the bench, optimised (6 min at first)" cargo build --quiet --release --features "$FEATURES" --bench "$1"
  cargo bench --quiet --features "$FEATURES" --bench "$1"
}

bench_browser() {
  need_browsers
  need_npm tests
  package wasm
  dashboard
  timed "building the selkie command, optimised (6 min at first)" cargo build --quiet --release --features "$FEATURES" --bin selkie
  timed "building the source of transactions, optimised" cargo build --quiet --release --features "$FEATURES" --bench propagation
  transport_echo
  FLOOD=$(flood) ECHO_LOG=$PWD/target/bench/echo.log npm run --silent bench --prefix tests
}

# Where the bench of propagation lies, which is a source of transactions too.
flood() {
  cargo build --quiet --release --features "$FEATURES" --bench propagation --message-format json |
    sed -n 's/.*"executable":"\([^"]*propagation-[^"]*\)".*/\1/p'
}

# The WebSocket transport alone in Chromium, as its test measures it: target/bench/echo.log.
transport_echo() {
  local -x CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$PWD/target/quick/selkie-wasm-bindgen-test-runner
  local -x CHROMEDRIVER=/usr/bin/chromedriver WASM_BINDGEN_USE_BROWSER=1
  local functions test=(wasm_cargo test --profile quick --test browser_websocket -- --nocapture a_kibibyte)
  functions=$(declare -f wasm_cargo has_wasm_target)
  say "echoing over the transport alone (2 min to build at first)"
  node tests/support/echo-server.mjs bash -c "WASM_TARGET=$WASM_TARGET; $functions; ${test[*]}" >target/bench/echo.log
}
