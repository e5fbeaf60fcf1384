#!/usr/bin/env bash
# Checks, tunes and benches SwinStyle on this machine; needs a GPU's driver and no toolchain. Results go into one folder.
# usage: run.sh [DEVICE...]   devices as `swinstyle doctor` names them (cuda, wgpu, cpu); without any, every one that is not software.
#   RESULTS=DIR   where to write (default: results beside this script)
#   PEER=PYTHON   a Python with PyTorch (default: python3 if it has torch)
#   QUICK=1       fewer candidates and rounds
set -u
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
results="${RESULTS:-$here/results}"
program="$here/swinstyle"
mkdir -p "$results/tuning" || exit 1
# Tables that come with the folder serve until this run has measured its own.
cp -n "$here"/tuning/*.toml "$results/tuning/" 2>/dev/null
export SWINSTYLE_TUNING="$results/tuning"
failed=()

# step NAME COMMAND...: runs it, keeps what it says in NAME.log and NAME.out, and goes on after a failure.
step() {
    local name="$1"
    shift
    echo "--- $name ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
    if "$@" >"$results/$name.out" 2>"$results/$name.log"; then
        tail -n 3 "$results/$name.out"
    else
        failed+=("$name (exit $?): $(tail -n 1 "$results/$name.log" | tr -d '\r')")
        echo "failed: ${failed[-1]}"
    fi
}

peer="${PEER:-}"
if [ -z "$peer" ] && python3 -c 'import torch' 2>/dev/null; then
    peer=python3
fi
quick=()
rounds=(--rounds 3)
if [ -n "${QUICK:-}" ]; then
    quick=(--quick)
    rounds=(--rounds 1 --runs 5)
fi
{ uname -a; date -u; nvidia-smi 2>/dev/null; } >"$results/machine.txt"

step doctor "$program" doctor
devices=("$@")
if [ ${#devices[@]} -eq 0 ]; then
    # A line of the list: name of the device, its hardware, and `, software` where it is only played.
    mapfile -t devices < <(grep -E '^(cuda|wgpu)' "$results/doctor.out" | grep -v ', software' | awk '{print $1}')
    [ ${#devices[@]} -eq 0 ] && devices=(cpu)
fi
for device in "${devices[@]}"; do
    tag="${device//:/}"
    step "$tag-check" "$program" kernels check "$here/golden" --device "$device"
    step "$tag-tune" "$program" kernels tune "${quick[@]}" --device "$device" --out "$results/tuning"
    step "$tag-check-tuned" "$program" kernels check "$here/golden" --device "$device"
    with=()
    if [ -n "$peer" ]; then
        with=(--peer "$peer")
    fi
    # CASE narrows the benches, as for a trial of this script.
    if [ -n "${CASE:-}" ]; then
        with+=(--case "$CASE")
    fi
    step "$tag-bench" "$program" kernels compare "${with[@]}" "${rounds[@]}" --device "$device" \
        --script "$here/peers/pytorch_peer.py" --out "$results"
done

echo "results: $results ($((SECONDS / 60)) min)"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" | tee "$results/failed.txt"
    exit 1
fi
rm -f "$results/failed.txt"
echo "every step passed"
