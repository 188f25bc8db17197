#!/usr/bin/env bash
# Fuzzes every target for SECONDS each, one after the other: run.sh SECONDS [TARGET…]. Exit 1 on a finding.
set -uo pipefail
cd "$(dirname "$0")"
seconds=${1:?"usage: run.sh SECONDS [TARGET…]"}
shift
targets=("$@")
((${#targets[@]})) || targets=(sse messages request response stream path guard)
PATH="$PATH:/tmp/cargo-fuzz/bin"

# Coverage wants nightly's switches; without a nightly the stable compiler is told to take them.
if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
  fuzz() { cargo +nightly fuzz "$@"; }
else
  export RUSTC_BOOTSTRAP=1
  fuzz() { cargo fuzz "$@"; }
fi

python3 seed.py seeds || exit 2
# No sanitizer: `unsafe` is forbidden in what is fuzzed, and without one it runs several times as fast.
for target in "${targets[@]}"; do
  fuzz build --sanitizer none "$target" || exit 2
done

total=0 findings=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  log=$(mktemp)
  fuzz run --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -dict=json.dict -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1
  status=$?
  number() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  executed=$(number number_of_executed_units)
  total=$((total + ${executed:-0}))
  echo "$target: ${executed:-0} executions, $(number average_exec_per_sec)/s"
  if ((status != 0)); then
    findings=$((findings + 1))
    echo "$target: FOUND, see fuzz/artifacts/$target and $log"
    grep -aE -A2 'panicked at|ERROR: libFuzzer|^error|Test unit written' "$log" | cut -c1-600
  else
    rm -f "$log"
  fi
done
echo "$total executions, $findings of ${#targets[@]} targets with a finding"
((findings == 0))
