# Sourced by build.sh: the measurements. Each group prints a table and writes target/bench/GROUP.json.

readonly BENCH_GROUPS=(wasm connect browser)

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

bench_connect() {
  timed "building the bench, optimised (6 min at first)" cargo build --quiet --release --features webrtc --bench connect
  cargo bench --quiet --features webrtc --bench connect
}

bench_browser() {
  need_browsers
  need_npm tests
  package wasm
  dashboard
  timed "building the selkie command, optimised (6 min at first)" cargo build --quiet --release --features "$FEATURES" --bin selkie
  npm run --silent bench --prefix tests
}
