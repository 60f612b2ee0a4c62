# Sourced by build.sh: the measurements. Each group prints a table and writes target/bench/GROUP.json.
#
# `--smoke` runs all of a group for a moment, on the builds that the tests use: its figures say nothing and are not kept, but what no
# longer works shows. CI runs that. What stands after `--` goes to the bench: `attacks -- silent-tcp --seconds 8`.

readonly BENCH_GROUPS=(wasm connect propagation sync crowd peers attacks browser)

run_benches() {
  smoke=
  if [ "${1:-}" = --smoke ]; then
    smoke=1
    export SELKIE_BENCH_SMOKE=1
    shift
  fi
  local groups=() group begin=$SECONDS
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    groups+=("$1")
    shift
  done
  [ $# -eq 0 ] || shift
  bench_words=("$@")
  [ ${#groups[@]} -gt 0 ] || groups=("${BENCH_GROUPS[@]}")
  for group in "${groups[@]}"; do
    [[ " ${BENCH_GROUPS[*]} " == *" $group "* ]] || fail "no bench group \"$group\"; there are: ${BENCH_GROUPS[*]}"
  done
  setup
  mkdir -p target/bench
  for group in "${groups[@]}"; do
    say "measuring: $group${smoke:+ (for a moment)}"
    "bench_$group"
    [ -n "$smoke" ] || say "   figures: target/bench/$group.json"
  done
  say "all benches: $((SECONDS - begin)) s"
}

# What the benches are built from: optimised, or, in the smoke form, as the tests are.
package_to_measure() { package "$([ -n "$smoke" ] && echo quick || echo wasm)"; }

# native_build SENTENCE CARGO-ARGS...
native_build() {
  local sentence=$1
  shift
  if [ -n "$smoke" ]; then
    timed "building $sentence" cargo build --quiet --features "$FEATURES" "$@"
  else
    timed "building $sentence, optimised (6 min at first)" cargo build --quiet --release --features "$FEATURES" "$@"
  fi
}

# Where a bench's program lies.
native_program() {
  native_build "the bench" --bench "$1" >&2
  local profile=()
  [ -n "$smoke" ] || profile=(--release)
  cargo build --quiet "${profile[@]}" --features "$FEATURES" --bench "$1" --message-format json |
    sed -n "s/.*\"executable\":\"\([^\"]*$1-[^\"]*\)\".*/\1/p"
}

native_bench() { "$(native_program "$1")" "${bench_words[@]}"; }

bench_wasm() {
  package_to_measure
  node js/size.mjs
}

bench_connect() { native_bench connect; }
bench_propagation() { native_bench propagation; }
bench_sync() { native_bench sync; }
bench_crowd() { native_bench crowd; }
# Each of 10,000 connections is a file.
bench_peers() {
  ulimit -Sn "$(ulimit -Hn)"
  native_bench peers
}
bench_attacks() { native_bench attacks; }

bench_browser() {
  need_browsers
  need_npm tests
  package_to_measure
  dashboard
  native_build "the selkie command" --bin selkie
  transport_echo
  local -x SELKIE=$PWD/target/release/selkie ECHO_LOG=$PWD/target/bench/echo.log FLOOD
  [ -z "$smoke" ] || SELKIE=$PWD/target/debug/selkie
  # The bench of propagation is a source of transactions too.
  FLOOD=$(native_program propagation)
  npm run --silent bench --prefix tests
}

# The WebSocket transport alone in Chromium, as its test measures it: target/bench/echo.log.
transport_echo() {
  local -x CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$PWD/target/quick/selkie-wasm-bindgen-test-runner
  local -x CHROMEDRIVER=/usr/bin/chromedriver WASM_BINDGEN_USE_BROWSER=1
  local functions test=(wasm_cargo test --profile quick --features ledger --test browser_websocket -- --nocapture a_kibibyte)
  functions=$(declare -f wasm_cargo has_wasm_target)
  say "echoing over the transport alone (2 min to build at first)"
  node tests/support/echo-server.mjs bash -c "WASM_TARGET=$WASM_TARGET; $functions; ${test[*]}" >target/bench/echo.log
}
