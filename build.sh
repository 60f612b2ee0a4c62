#!/usr/bin/env bash
# The one entry to everything: `./build.sh help`.
#
# Each step says what it does and how long it may take on two cores, skips what is up to date, and is safe to run
# again. Nothing is installed outside the project but, for the tests, Chromium and Firefox by Debian's apt.
set -euo pipefail
cd "$(dirname "$0")"

readonly WASM_TARGET=wasm32-unknown-unknown
readonly FEATURES=cli,webrtc

help() {
  cat <<'END'
usage: ./build.sh COMMAND

  run [N] [ARGS]  set up, build, and start N nodes (default 4) that replay real Bitcoin blocks,
                  with a page whose tab is one more node; prints the page's address
  test [GROUP]    set up and run all tests, or one group: rust, wasm, js, www, browser, interop; attacks and sim run when named only
  npm             build the npm package into js/dist, optimised, and say its size
  bench [--smoke] [GROUP] [-- WORDS]
                  measure: wasm, connect, propagation, sync, crowd, peers, attacks, browser (default: all); writes target/bench/GROUP.json.
                  --smoke: everything for a moment, no figures, to see that it works
                  WORDS go to the bench: attacks -- silent-tcp --seconds 8
  sim NAME [--seed N] [--seeds K] [--nodes N] [--twice] [--shrink] [--trace FILE] [--html FILE]
                  run real nodes in virtual time: a scenario of sim/scenarios (sim --list names them), or a file
  sim --same [NAME] [ARGS]
                  a hundred runs of one seed, the last by a debug build: all have one hash
  sim --figures [NAME] [--nodes N]
                  measures scenarios, each beside gossipsub: all, or those that begin so; takes their figures and writes the documents'
                  tables. One process at a time, at low priority: what is counted is CPU time. All take hours
  figures [GROUP] take a group's figures from target/bench into docs/figures.json; write all tables from it
  lint [texts]    formatters and linters on every part; texts: without Clippy where it compiles the tests, as in CI
  setup           only what run needs: the wasm target, wasm-bindgen, npm packages
  help            this text
END
}

say() { printf '\033[1m==\033[0m %s\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
fail() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

# timed SENTENCE COMMAND...: says what is done, runs it, says how long it took.
timed() {
  local sentence=$1 begin=$SECONDS
  shift
  say "$sentence"
  "$@"
  say "   done in $((SECONDS - begin)) s"
}

# stale STAMP PATH...: whether one of the paths has changed since the stamp was written.
stale() {
  local stamp=$1 key
  shift
  key=$(hash_of "$@")
  [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$key" ]
}

fresh() {
  local stamp=$1
  shift
  mkdir -p "$(dirname "$stamp")"
  hash_of "$@" >"$stamp"
}

hash_of() { find "$@" -type f -not -path '*/node_modules/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum; }

# ---- set-up -------------------------------------------------------------------------------------

need_tools() {
  command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs and run this again"
  command -v node >/dev/null || fail "node is missing: install Node 20 or newer (https://nodejs.org) and run this again"
  command -v npm >/dev/null || fail "npm is missing: it comes with Node (https://nodejs.org)"
  [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "node $(node -v) is too old: 20 or newer is needed"
}

has_wasm_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$WASM_TARGET/lib" ]; }

# The wasm32 target: by rustup; where it can't download, by Debian's own Rust, which brings the sources of std.
need_wasm_target() {
  has_wasm_target && return
  if command -v rustup >/dev/null && timed "adding the $WASM_TARGET target by rustup (up to 1 min)" rustup target add "$WASM_TARGET"; then
    return
  fi
  [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib ] && command -v wasm-ld-22 >/dev/null && return
  timed "rustup can't; installing Debian's Rust for wasm instead (2 min)" apt_install rustc-web cargo-web rust-web-src lld-22
}

# wasm_cargo COMMAND ARGS...: cargo for wasm32, with whichever toolchain has the target, and without what a tab has no use for.
wasm_cargo() {
  local command=$1
  local -x RUSTC_WRAPPER=$PWD/tools/lean-rustc
  shift
  if has_wasm_target; then
    cargo "$command" --target "$WASM_TARGET" "$@"
  else
    # Debian's own folder first: `cargo clippy` must not meet another toolchain's driver.
    PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 \
      /usr/bin/cargo "$command" --target "$WASM_TARGET" -Z build-std=std,panic_abort "$@"
  fi
}

apt_install() {
  command -v apt-get >/dev/null || fail "no apt-get here: install $* by hand and run this again"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || fail "no right to install $*: run 'sudo apt-get install $*' and then this again"
    sudo=(sudo -n)
  fi
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Cargo does not know what its wrapper does: where that has changed, the crates of which it takes something away are built again.
fresh_lean() {
  stale target/lean-rustc.stamp tools/lean-rustc tools/lean || return 0
  local profile
  for profile in dev quick wasm; do
    cargo clean --quiet --target "$WASM_TARGET" --profile "$profile" -p curve25519-dalek -p snow -p data-encoding -p multibase \
      -p multiaddr
  done
  fresh target/lean-rustc.stamp tools/lean-rustc tools/lean
}

need_browsers() {
  local missing=()
  [ -x /usr/bin/chromium ] || missing+=(chromium)
  [ -x /usr/bin/chromedriver ] || missing+=(chromium-driver)
  [ -x /usr/bin/firefox-esr ] || missing+=(firefox-esr)
  command -v openssl >/dev/null || missing+=(openssl)
  [ ${#missing[@]} -eq 0 ] || timed "installing ${missing[*]} for the tests (1 min)" apt_install "${missing[@]}"
}

need_npm() {
  local folder=$1
  stale "$folder/node_modules/.selkie-stamp" "$folder/package-lock.json" || return 0
  timed "npm packages of $folder/ (up to 1 min)" npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error
  fresh "$folder/node_modules/.selkie-stamp" "$folder/package-lock.json"
}

bindgen_tool() { timed "building wasm-bindgen as Cargo.lock pins it (1 min at first)" cargo build --quiet --profile quick -p selkie-wasm-bindgen --bins; }

setup() {
  need_tools
  need_wasm_target
  fresh_lean
  bindgen_tool
  need_npm js
  need_npm www
}

# ---- building -----------------------------------------------------------------------------------

# wasm PROFILE: js/wasm, the two that the package holds: `selkie`, and `ledger` with the built-in chains that have a store. They are two only
# where they are shipped. Elsewhere the larger one has both names: each is loaded as it will be, and compiled once.
wasm() {
  local profile=$1 stamp=target/wasm-$1.stamp inputs=(src Cargo.toml Cargo.lock tools/lean-rustc tools/lean tools/order-functions.mjs)
  if [ -f js/wasm/selkie_bg.wasm ] && [ "$(cat js/wasm/profile 2>/dev/null)" = "$profile" ] && ! stale "$stamp" "${inputs[@]}"; then
    return
  fi
  mkdir -p js/wasm
  # Until all is there it is of no profile, and is neither packed nor passed for built.
  rm -f js/wasm/profile
  cdylib "$profile" ledger silent,ledger
  if [ "$profile" = wasm ]; then
    cdylib "$profile" selkie silent
    optimized ledger
    optimized selkie
  else
    cp js/wasm/ledger.js js/wasm/selkie.js
    cp js/wasm/ledger_bg.wasm js/wasm/selkie_bg.wasm
  fi
  echo "$profile" >js/wasm/profile
  fresh "$stamp" "${inputs[@]}"
}

# cdylib PROFILE NAME FEATURES: js/wasm/NAME.js and js/wasm/NAME_bg.wasm. Names have the types in them, by which functions are ordered.
cdylib() {
  local profile=$1 name=$2 features=$3 folder=$1
  [ "$profile" = dev ] && folder=debug
  timed "compiling the tab's node to wasm, profile $profile, $name (1 to 3 min at first)" \
    wasm_cargo rustc --quiet --lib --crate-type cdylib --features "$features" --profile "$profile" -- -C symbol-mangling-version=v0
  target/quick/selkie-wasm-bindgen "target/$WASM_TARGET/$folder/selkie.wasm" --target web --out-name "$name" --out-dir js/wasm
}

# optimized NAME: what a page loads is compressed, and then -Oz costs more than it saves: it breaks up what the compiler repeats. These
# passes keep that, and have the same bytes for the same things: no hints of alignment, which no browser heeds. Then functions that are alike
# are put side by side.
optimized() {
  local wasm=js/wasm/$1_bg.wasm
  local opt=(node js/node_modules/binaryen/bin/wasm-opt --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext
    --enable-mutable-globals --enable-reference-types --enable-multivalue)
  timed "wasm-opt, $1 (1 min)" "${opt[@]}" --debuginfo --duplicate-function-elimination --dae-optimizing \
    --optimize-instructions --coalesce-locals --reorder-locals --merge-blocks --vacuum --dealign --remove-unused-module-elements \
    "$wasm" -o "$wasm"
  timed "ordering its functions (20 s)" node tools/order-functions.mjs "$wasm"
  "${opt[@]}" --reorder-functions-by-name --strip-debug --strip-producers "$wasm" -o "$wasm"
}

# package PROFILE: js/dist.
package() {
  wasm "$1"
  local stamp=target/js.stamp inputs=(js/src js/wasm js/package.json js/tsconfig.json js/build.mjs js/index.d.ts js/config.d.ts)
  [ -d js/dist ] && ! stale "$stamp" "${inputs[@]}" && return
  timed "building the npm package (10 s)" npm run --silent --prefix js build
  fresh "$stamp" "${inputs[@]}"
}

dashboard() {
  local stamp=target/www.stamp inputs=(www/src www/index.html www/package.json js/dist)
  [ -d www/dist ] && ! stale "$stamp" "${inputs[@]}" && return
  timed "building the dashboard (10 s)" npm run --silent --prefix www build
  fresh "$stamp" "${inputs[@]}"
}

# ---- commands -----------------------------------------------------------------------------------

run() {
  local count=4
  if [ $# -gt 0 ] && [[ $1 =~ ^[0-9]+$ ]]; then
    count=$1
    shift
  fi
  setup
  package quick
  dashboard
  # The page needs what the profile optimises of ours; the command is fast enough without, and is there minutes sooner.
  timed "building the selkie command (3 min at first)" \
    env CARGO_PROFILE_QUICK_OPT_LEVEL=0 cargo build --quiet --profile quick --features cli --bin selkie
  exec target/quick/selkie devnet "$count" "$@"
}

sim() {
  # From within, where the configuration is that gives the crate its third skin.
  (cd sim && timed "building the simulator (5 min at first)" cargo build --quiet --release)
  if [ "${1:-}" = --same ]; then
    (cd sim && timed "building it without optimisations too (5 min at first)" cargo build --quiet --bin sim)
    shift
    case ${1:-} in '' | -*) set -- small "$@" ;; esac
    set -- "$@" --times 100 --beside sim/target/debug/sim
  fi
  if [[ " $* " == *" --figures "* ]]; then
    need_tools
    # What is slower beside others measures the same.
    nice -n 10 sim/target/release/sim "$@" && figures sim
    return
  fi
  sim/target/release/sim "$@"
}

figures() {
  need_tools
  node tools/figures/figures.mjs take "$@"
  node tools/figures/figures.mjs write
}

npm_package() {
  setup
  package wasm
  node js/size.mjs
}

case ${1:-help} in
run) shift && run "$@" ;;
test) shift && source tests/run.sh && run_tests "$@" ;;
npm) npm_package ;;
bench) shift && source benches/run.sh && run_benches "$@" ;;
sim) shift && sim "$@" ;;
figures) shift && figures "$@" ;;
lint) shift && source tests/run.sh && lint "$@" ;;
setup) setup ;;
help | -h | --help) help ;;
*) help >&2 && fail "no command \"$1\"" ;;
esac
