#!/bin/sh
# Compiles the Swift code of this folder on Linux against Stubs, and runs the tests of GateData.
#
#     hosts/apple/check.sh
#
# In both language modes, with warnings as errors, because an app may use either. Compiling is a whole
# build: data races and lifetimes are checked long after types.
#
# FIXTURE=/FILE has the tests read a fixture of the gate in place of the committed one, and
# TRANSCRIPT=/FILE has them leave an answer to it; both are absolute paths.
set -eu

cd "$(dirname "$0")"
out=$(cd ../.. && pwd)/target/swift

if [ "$(uname)" != Linux ]; then
    echo "the stubs are for Linux; here Apple's own frameworks judge: swift build, swift test" >&2
    exit 2
fi

# run NAME COMMAND...: with a scratch folder of that name, so that builds do not undo each other.
run() {
    scratch=$out/$1
    shift
    "$@" --scratch-path "$scratch" -Xswiftc -warnings-as-errors -Xswiftc -swift-version -Xswiftc "$mode"
}

swift --version
for mode in 6 5; do
    echo "language mode $mode"
    run "gate-$mode" swift build
    COREAI_MODELS_FORK=Stubs/coreai-models run "fork-$mode" swift build
    run "vlm-$mode" swift build --package-path Vlm
done
# In mode 5 alone: the code that finds XCTest's tests on Linux does not compile in the other.
run "gate-$mode" swift test
