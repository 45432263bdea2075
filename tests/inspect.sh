#!/bin/sh
# What `quern inspect` refuses: each file of a run and of a model damaged in turn.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 1
cd "$folder" || exit 1
trap 'cd /; rm -rf "$folder"' EXIT

# A run whose best checkpoint is not its latest, and a model by itself.
makes_run()
{
    seq 300 >text
    "$quern" train gpt --data text --out run --quiet --layers 1 --heads 2 --width 16 --context 16 --batch 4 \
        --steps 2 --eval-every 1 --lr 0 && [ "$(readlink run/best)" = step-1 ] &&
        mkdir model && cp run/best/model.safetensors run/best/config.json run/best/tokenizer.json model
}
accepts()
{
    "$quern" inspect "$1" >out.tmp
}
# refuses FOLDER MESSAGE COMMAND: run inside a copy of the folder, which is then refused.
refuses()
{
    rm -rf bad
    cp -r "${1%%/*}" bad
    inner=bad/
    [ "$1" = "${1#*/}" ] || inner=bad/${1#*/}
    (cd "$inner" && eval "$3") || return 1
    status=0
    "$quern" inspect bad >out.tmp 2>err.tmp || status=$?
    [ "$status" = 1 ] && grep -qF -e "$2" err.tmp && return
    echo "exit status $status, expected 1 and \"$2\" in:"
    cat err.tmp
    return 1
}

# The latest checkpoint damaged: --resume names the other one, and goes on from it as it says.
goes_on_from_other()
{
    for file in training.json optimizer.safetensors; do
        rm -rf bad away
        cp -r run bad
        echo '{' >"bad/step-2/$file"
        "$quern" train gpt --out bad --resume --steps 3 2>err.tmp && return 1
        grep -q "bad/step-2/$file: .* move its folder away: --resume then goes on from bad/step-1" err.tmp || {
            cat err.tmp
            return 1
        }
        mv bad/step-2 away
        "$quern" train gpt --out bad --resume --steps 3 --quiet || return 1
        [ "$(readlink bad/latest)" = step-3 ] || return 1
    done
}

check "a run is made" makes_run
check "a run is accepted" accepts run
check "a checkpoint is accepted" accepts run/latest
check "a model is accepted" accepts model

for of in model run/step-1 run/step-2; do
    check "$of: no config.json" refuses $of 'config.json' 'rm config.json'
    check "$of: an empty config.json" refuses $of 'config.json: model_type: missing' 'echo {} >config.json'
    check "$of: another model_type" refuses $of 'config.json: model_type: expected "gpt2"' \
        'sed -i s/gpt2/xlnet/ config.json'
    check "$of: another vocab_size" refuses $of 'config.json makes it' \
        'sed -i "s/\"vocab_size\": [0-9]*/\"vocab_size\": 9/" config.json'
    check "$of: no weights" refuses $of 'model.safetensors' 'rm model.safetensors'
    check "$of: weights without tensors" refuses $of 'there is no tensor' \
        'printf "\002\000\000\000\000\000\000\000{}" >model.safetensors'
    check "$of: tensors of other names" refuses $of 'there is no tensor transformer.wte.weight' \
        'sed -i s/transformer.wte/transformer.wtf/ model.safetensors'
    check "$of: tensors of another type" refuses $of 'found I32' 'sed -i s/F32/I32/g model.safetensors'
    check "$of: no tokenizer.json" refuses $of 'holds no tokenizer' 'rm tokenizer.json'
    check "$of: an empty tokenizer.json" refuses $of 'tokenizer.json: model: missing' 'echo {} >tokenizer.json'
done
check "model: more tokens than the model has" refuses model 'the tokenizer has 12 tokens, the model only 11' \
    'sed -i "s/\"0\": 1/\"x\": 11, &/" tokenizer.json'
for of in run/step-1 run/step-2; do
    check "$of: more tokens than the model has" refuses $of 'disagree on vocab_size' \
        'sed -i "s/\"0\": 1/\"x\": 11, &/" tokenizer.json'
    check "$of: no optimizer" refuses $of 'optimizer.safetensors: No such file' 'rm optimizer.safetensors'
    check "$of: another file as optimizer" refuses $of 'optimizer.safetensors: tensor step is missing' \
        'cp model.safetensors optimizer.safetensors'
    check "$of: the optimizer of another step" refuses $of "is of step ${of#run/step-}, but training.json of" \
        'sed -i "s/\"step\": ./\"step\": 7/" training.json'
    check "$of: no training.json" refuses $of 'training.json: No such file' 'rm training.json'
    check "$of: an empty training.json" refuses $of 'training.json: device: expected a string, found nothing' \
        'echo {} >training.json'
    check "$of: a word for a number" refuses $of 'width: expected a whole number, found string "x"' \
        'sed -i "s/\"width\": 16/\"width\": \"x\"/" training.json'
    check "$of: another number of heads" refuses $of 'disagree on n_head' \
        'sed -i "s/\"n_head\": 2/\"n_head\": 1/" config.json'
done
check "a run goes on from its other checkpoint" goes_on_from_other
done_testing
