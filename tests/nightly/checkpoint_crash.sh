#!/usr/bin/env bash
# What the tests of crashes, power loss and damage do in seconds, for longer and from a new seed.
#   checkpoint_crash.sh BUILD [KILLS [STATES [FLIPS]]]      default: 10000 kills, 20000 states, 1000000 flips
# BUILD is a build folder. The seed is printed; give it as SEED to see a failure again.
set -eu
build=$1 kills=${2:-10000} states=${3:-20000} flips=${4:-1000000}
seed=${SEED:-$(date +%s)}
echo "seed $seed"
"$build/tests/checkpoint_test_crash" "$kills" "$seed"
"$build/tests/checkpoint_test_power" "$states" "$seed"
"$build/tests/checkpoint_test_flips" "$flips" "$seed"
