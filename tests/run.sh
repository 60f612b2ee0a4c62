# Sourced by build.sh: the tests, group by group, and the linters. Counts are added up and printed at the end.

readonly GROUPS_OF_TESTS=(rust wasm js www browser interop)
# Run when named: the attacks measure, and want a machine that does nothing else; the simulator is a build of its own.
readonly NAMED_GROUPS=(attacks sim)
passed=0
failed=0
skipped=0

run_tests() {
  local groups=("$@") begin=$SECONDS
  [ ${#groups[@]} -gt 0 ] || groups=("${GROUPS_OF_TESTS[@]}")
  local group
  for group in "${groups[@]}"; do
    [[ " ${GROUPS_OF_TESTS[*]} ${NAMED_GROUPS[*]} " == *" $group "* ]] ||
      fail "no test group \"$group\"; there are: ${GROUPS_OF_TESTS[*]} ${NAMED_GROUPS[*]}"
  done
  setup
  mkdir -p target/test-logs
  for group in "${groups[@]}"; do
    "prepare_$group"
    run_group "$group" "test_$group"
  done
  say "all tests: $((SECONDS - begin)) s"
  # One line alone, so that a machine can read it too.
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

# A group's command, shown and kept in target/test-logs; its runners' summaries are added up.
run_group() {
  local group=$1 command=$2 log=target/test-logs/$1.log begin=$SECONDS status=0
  say "testing: $group"
  # errexit does not reach into a function whose status is looked at: the groups chain with &&.
  "$command" 2>&1 | tee "$log" || status=$?
  say "   $group: $((SECONDS - begin)) s"
  count "$log"
  if [ "$status" -ne 0 ]; then
    [ "$group_failed" -gt 0 ] || failed=$((failed + 1))
    say "   $group FAILED (the log is $log)"
  fi
}

# The summaries of nextest, of cargo test and wasm-bindgen-test, and of node:test, added up.
count() {
  eval "$(sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
    function number_before(word,   i) {
      for (i = 2; i <= NF; i++) if ($i ~ "^" word) return $(i - 1) + 0
      return 0
    }
    /^ *Summary \[/ || /^test result:/ {
      passed += number_before("passed"); failed += number_before("failed")
      skipped += number_before("skipped") + number_before("ignored")
    }
    /^(#|ℹ) pass [0-9]+$/ { passed += $3 }
    /^(#|ℹ) fail [0-9]+$/ { failed += $3 }
    /^(#|ℹ) skipped [0-9]+$/ { skipped += $3 }
    END { printf "group_passed=%d group_failed=%d group_skipped=%d\n", passed, failed, skipped }
  ')"
  passed=$((passed + group_passed))
  failed=$((failed + group_failed))
  skipped=$((skipped + group_skipped))
}

# ---- the groups -----------------------------------------------------------------------------------

prepare_rust() { timed "building the native tests (8 min at first)" cargo build --quiet --features "$FEATURES" --all-targets; }
test_rust() {
  local runner=(cargo nextest run --no-fail-fast -E 'not binary(attacks)')
  command -v cargo-nextest >/dev/null ||
    runner=(cargo test --no-fail-fast --lib --bins --examples --test both_skins --test cli --test examples --test integration)
  "${runner[@]}" --features "$FEATURES" && cargo test --features "$FEATURES" --example own_chain &&
    cargo test --features "$FEATURES" --doc
}

prepare_attacks() { prepare_rust; }
test_attacks() { cargo test --no-fail-fast --features "$FEATURES" --test attacks -- --test-threads=1; }

# Both builds: a seed has one hash in either. Tests are of the debug one.
prepare_sim() {
  (cd sim && timed "building the simulator (5 min at first)" cargo build --quiet --release --bin sim)
  (cd sim && timed "building it and its tests without optimisations (5 min at first)" cargo build --quiet --workspace --all-targets)
}
test_sim() { (cd sim && cargo test --workspace && ./check); }

prepare_wasm() {
  need_browsers
  need_npm tests
}
test_wasm() {
  local -x CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$PWD/target/quick/selkie-wasm-bindgen-test-runner
  local -x CHROMEDRIVER=/usr/bin/chromedriver WASM_BINDGEN_TEST_TIMEOUT=480 WASM_BINDGEN_USE_BROWSER=1
  node tests/support/echo-server.mjs bash -c "$(declare -f wasm_cargo has_wasm_target); WASM_TARGET=$WASM_TARGET; wasm_cargo test --profile quick --features ledger --lib --test both_skins --test browser_websocket --test browser_webrtc"
}

prepare_js() {
  need_browsers
  need_npm js/test/fixtures
  package quick
}
test_js() { npm run test:built --prefix js && node --test --test-reporter=spec tools/figures/*.test.mjs; }

prepare_www() {
  need_browsers
  package quick
  dashboard
}
test_www() { npm test --prefix www; }

prepare_browser() {
  prepare_www
  need_npm tests
  timed "building the selkie command" cargo build --quiet --features "$FEATURES" --bin selkie --example own_protocol
  chain_in_a_tab
}
test_browser() { npm run test:browser --prefix tests; }

# The example of a chain in Rust, as a user builds it.
chain_in_a_tab() {
  local stamp=target/chain-in-a-tab.stamp inputs=(src examples/chain-in-a-tab Cargo.toml Cargo.lock tools/lean-rustc tools/lean)
  [ -f target/chain-in-a-tab/chain.js ] && ! stale "$stamp" "${inputs[@]}" && return
  timed "building examples/chain-in-a-tab (1 min at first)" wasm_cargo build --quiet --package chain-in-a-tab --profile quick
  target/quick/selkie-wasm-bindgen "target/$WASM_TARGET/quick/chain_in_a_tab.wasm" --target web --no-typescript \
    --out-name chain --out-dir target/chain-in-a-tab
  fresh "$stamp" "${inputs[@]}"
}

prepare_interop() { prepare_browser; }
test_interop() { npm run test:interop --prefix tests; }

# ---- lint -------------------------------------------------------------------------------------

fuzz_lock() {
  local told
  told=$(cargo metadata --quiet --locked --format-version 1 --manifest-path fuzz/Cargo.toml 2>&1 >/dev/null) && return
  [[ $told == *--locked* ]] && fail "fuzz/Cargo.lock is behind Cargo.toml: run cargo check --manifest-path fuzz/Cargo.toml"
  say "what only the fuzz targets need can't be had here: their lock file is not checked"
}

# lint [texts]: with `texts`, Clippy runs only over what the tests don't build: for the rest CI has it compile them.
lint() {
  setup
  has_wasm_target || [ -x /usr/bin/cargo-clippy ] || timed "installing Debian's clippy (1 min)" apt_install rust-web-clippy
  timed "rustfmt" cargo fmt --all --check
  if [ "${1:-}" = texts ]; then untested; else clippy; fi
  (cd sim && timed "rustfmt and clippy, simulator" bash -c "cargo fmt --all --check && cargo clippy --quiet --workspace --all-targets -- -D warnings")
  timed "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --lib --features "$FEATURES,test-utils"
  timed "prettier and tsc: js" npm run --silent --prefix js lint
  timed "prettier and tsc: www" npm run --silent --prefix www lint
  timed "prettier: tests, benches and tools" js/node_modules/.bin/prettier --config js/.prettierrc.json --check \
    "tests/**/*.mjs" "tests/support/page/*" "benches/**/*.mjs" "tools/**/*.mjs"
  # Compiling them takes minutes; that their lock file fits is what goes wrong first.
  timed "the fuzz targets' lock file" fuzz_lock
  timed "the documents' figures" node tools/figures/figures.mjs check
  if command -v cargo-deny >/dev/null; then
    timed "cargo deny" cargo deny check
  else
    say "cargo-deny is not installed: licences and advisories are not checked (cargo install cargo-deny)"
  fi
}

# The targets of the workspace that no test group builds. What they need is built: the tool is by then.
untested() {
  timed "compiling the test targets beside the package's" \
    cargo build --quiet --profile quick -p selkie-wasm-bindgen -p chain-in-a-tab --all-targets
}

clippy() {
  timed "clippy, native" cargo clippy --quiet --workspace --all-targets --features "$FEATURES" -- -D warnings
  timed "clippy, wasm32" wasm_cargo clippy --quiet --lib --tests --features ledger -- -D warnings
}
