#!/bin/sh
# The program end to end, on the default device: train, resume, generate, evaluate, inspect, and what it refuses.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 1
cd "$folder" || exit 1
trap 'cd /; rm -rf "$folder"' EXIT

tiny='--layers 1 --heads 2 --width 16 --context 16 --batch 4 --warmup 5'

# A text of words that follow each other by a rule with some chance in it, the same everywhere.
make_text()
{
    awk -v lines="$1" 'BEGIN {
        n = split("the cat dog saw ran to a house tree and then it was there, said who? Me.", word, " ")
        at = 1
        for (i = 0; i < lines; i++) {
            line = ""
            for (j = 0; j < 8; j++) {
                state = (state * 1103 + 12345) % 65536
                at = (at * 3 + int(state / 16384)) % n + 1
                line = line word[at] " "
            }
            print line
        }
    }'
}

# The last run of the program: its status, what it said.
runs()
{
    expected=$1
    shift
    status=0
    "$quern" "$@" >out.tmp 2>err.tmp || status=$?
    [ "$status" = "$expected" ] || {
        echo "exit status $status, expected $expected: quern $*"
        cat out.tmp err.tmp
        return 1
    }
}
mentions()
{
    grep -qF -e "$2" "$1" || {
        echo "no \"$2\" in:"
        cat "$1"
        return 1
    }
}
# refuses STATUS MESSAGE WORDS...
refuses()
{
    status_expected=$1
    message=$2
    shift 2
    runs "$status_expected" "$@" && mentions err.tmp "$message" && mentions err.tmp "quern $1"
}
train()
{
    # shellcheck disable=SC2086
    runs 0 train gpt --data text --quiet $tiny "$@"
}
small()
{
    # shellcheck disable=SC2086
    refuses "$@" $tiny
}
untouched()
{
    [ ! -e no ] || {
        ls -R no
        return 1
    }
}
# Whether two runs stand at the same bits.
same_latest()
{
    cmp "$1/latest/optimizer.safetensors" "$2/latest/optimizer.safetensors" &&
        cmp "$1/latest/model.safetensors" "$2/latest/model.safetensors"
}
# The values of a key in the log, one a line.
values()
{
    sed -n "s/.*\"$2\": \([-+.0-9e]*\).*/\1/p" "$1"
}
# The log without what depends on the clock.
timeless()
{
    sed 's/"tokens_per_second": [^,}]*, "seconds": [^,}]*//' "$1"
}
is_file()
{
    for file; do
        [ -s "$file" ] || {
            echo "no file $file"
            return 1
        }
    done
}
same()
{
    for file; do
        cmp "one/$file" "two/$file" || return 1
    done
}

make_text 150 >text
make_text 40 >other
head -c 300 text >short

# ---- Training ----

trains()
{
    train --out one --steps 40 --eval-every 15 && is_file one/model.safetensors one/config.json \
        one/tokenizer.json one/tokenizer_config.json one/latest/training.json \
        one/latest/optimizer.safetensors one/best/model.safetensors one/log.jsonl one/loss.svg
}
logs_each_step()
{
    [ "$(values one/log.jsonl step | tr '\n' ' ')" = "$(seq 40 | tr '\n' ' ')" ] || return 1
    [ "$(values one/log.jsonl valid_loss | wc -l)" = 3 ] || return 1
    for key in loss learning_rate grad_norm tokens_per_second seconds; do
        [ "$(values one/log.jsonl "$key" | wc -l)" = 40 ] || return 1
    done
}
learns()
{
    values one/log.jsonl loss | awk 'NR == 1 { first = $1 } { last = $1 }
        END { print first, last; exit !(last < first - 0.1) }'
}
draws()
{
    grep -q 'class="valid" d="M' one/loss.svg && grep -q '</svg>' one/loss.svg
}
repeats()
{
    train --out two --steps 40 --eval-every 15 && same model.safetensors \
        latest/optimizer.safetensors config.json tokenizer.json
}
speaks()
{
    # shellcheck disable=SC2086
    runs 0 train gpt --data text --out spoken --steps 10 $tiny && mentions err.tmp 'device ' &&
        mentions err.tmp 'parameters' && mentions err.tmp 'memory ' && mentions err.tmp 'kernels ' &&
        mentions err.tmp 'step 10/10 100%' && mentions out.tmp 'quern generate spoken'
}
is_silent()
{
    train --out silent --steps 3 && [ ! -s out.tmp ] && [ ! -s err.tmp ]
}
keeps_streams_apart()
{
    # shellcheck disable=SC2086
    "$quern" train gpt --data text --out closed --steps 3 $tiny <&- >&- 2>&-
    [ "$(wc -l <closed/log.jsonl)" = 3 ] && ! grep -v '^{"step"' closed/log.jsonl
}
accumulates()
{
    train --out small --steps 20 --batch 3 --accumulate 4 --eval-every 0 &&
        train --out large --steps 20 --batch 12 --eval-every 0 || return 1
    values small/log.jsonl loss >small.tmp
    values large/log.jsonl loss | paste small.tmp - | awk '
        { difference = $1 - $2; if (difference < 0) difference = -difference }
        difference > 1e-5 { print "step", NR, $1, $2; wrong = 1 }
        END { exit wrong || NR != 20 }'
}
explains()
{
    train --out explained --steps 2 --explain --profile && mentions out.tmp matmul
}
# A trace has an event for each command, one after the other.
traces()
{
    train --out traced --steps 3 --trace trace.json || return 1
    ! command -v python3 >/dev/null || python3 -c '
import json
events = json.load(open("trace.json"))
assert len(events) > 100 and all(e["ph"] == "X" and e["dur"] >= 0 for e in events), len(events)
starts = [e["ts"] for e in events]
assert starts == sorted(starts) and starts[0] == 0
assert {"matmul", "attention", "adamw"} <= {e["cat"] for e in events}'
}
keeps_data()
{
    { echo [; cat text; } >listed
    refuses 1 'would write over' train gpt --data listed --out untraced --trace listed && [ "$(head -c 1 listed)" = [ ] &&
        [ "$(wc -c <listed)" -gt 100 ]
}
stops_by_the_clock()
{
    started=$(date +%s)
    train --out timed --time 4 --eval-every 100000 || return 1
    took=$(($(date +%s) - started))
    echo "$took s"
    [ "$took" -ge 3 ] && [ "$took" -le 20 ] && is_file timed/model.safetensors &&
        runs 0 train gpt --out timed --resume --time 1 --quiet
}
stops_early()
{
    # A rate of 0 never gets better.
    train --out stale --steps 1000 --eval-every 5 --lr 0 --patience 2 || return 1
    [ "$(readlink stale/latest)" = step-15 ] && [ "$(readlink stale/best)" = step-5 ]
}

check "trains" trains
check "the log has each step" logs_each_step
check "the loss falls" learns
check "the curves are drawn" draws
check "the same seed gives the same bytes" repeats
check "says what it does" speaks
check "--quiet says nothing" is_silent
check "streams that are closed do not end in the log" keeps_streams_apart
check "4 batches of 3 are one of 12" accumulates
check "--explain and --profile" explains
check "--trace" traces
check "a trace in the place of the data" keeps_data
check "a trace in the place of another file" refuses 1 'which is no trace' train gpt --data text --out untraced --trace one/config.json
check "a trace that cannot be written" refuses 1 'cannot write no/trace' train gpt --data text --out untraced --trace no/trace
check "--time" stops_by_the_clock
check "--patience" stops_early
check "byte tokens, --valid FILE" train --out bytes --steps 3 --tokenizer byte --valid other
check "no validation" train --out all --steps 3 --valid-fraction 0

# ---- Runs that come to nothing ----

# Weights that grow a millionfold a step are infinite soon.
explode()
{
    # shellcheck disable=SC2086
    refuses 1 'not finite' train gpt --data text --quiet $tiny --warmup 0 --lr 1e3 --min-lr 1e3 \
        --weight-decay 1e3 --steps 30 "$@" && mentions err.tmp 'smaller --lr' && ! grep -qi -e -nan err.tmp
}
keeps_the_last_finite()
{
    explode --out exploded --eval-every 2 && mentions err.tmp 'exploded/best' || return 1
    [ "$(readlink exploded/latest)" = step-2 ] && ! grep -i nan exploded/log.jsonl && runs 0 generate exploded/latest --tokens 5
}
writes_nothing_infinite()
{
    explode --out infinite --eval-every 0 && [ ! -e infinite/latest ] && [ ! -e infinite/step-30.tmp ]
}
# Rates so large that the loss has thousands of nats: its perplexity is infinite.
prints_valid_json()
{
    train --out wild --steps 10 --lr 100 --warmup 0 && runs 0 evaluate wild/latest --data other --json &&
        mentions out.tmp '"perplexity": null, '
}
check "weights that are infinite end a run" writes_nothing_infinite
check "the last finite checkpoint stays" keeps_the_last_finite
check "JSON without infinity" prints_valid_json

# ---- Stopping and going on ----

goes_on_exactly()
{
    rm -rf one two
    train --out one --steps 600 --eval-every 60 || return 1
    # shellcheck disable=SC2086
    "$quern" train gpt --data text --out two --quiet --steps 600 --eval-every 60 $tiny &
    process=$!
    for lines in 70 200 390; do
        wait_for has_lines two/log.jsonl "$lines" || return 1
        kill -9 "$process" 2>/dev/null
        wait "$process" 2>/dev/null
        "$quern" train gpt --out two --resume --quiet &
        process=$!
    done
    wait "$process" || return 1
    same model.safetensors latest/model.safetensors latest/optimizer.safetensors || return 1
    timeless one/log.jsonl >one.tmp
    timeless two/log.jsonl | diff one.tmp -
}
saves_on_signal()
{
    # shellcheck disable=SC2086
    "$quern" train gpt --data text --out "signal-$1" --steps 1M $tiny >out.tmp 2>err.tmp &
    process=$!
    wait_for has_lines "signal-$1/log.jsonl" 20 || return 1
    kill -s "$1" "$process"
    wait "$process"
    status=$?
    [ "$status" = "$2" ] || {
        echo "exit status $status"
        cat err.tmp
        return 1
    }
    mentions err.tmp "quern train gpt --out signal-$1 --resume" || return 1
    saved=$(readlink "signal-$1/latest")
    runs 0 train gpt --out "signal-$1" --resume --steps "$((${saved#step-} + 5))" --quiet
}
says_it_ends()
{
    # shellcheck disable=SC2086
    "$quern" train gpt --data text --out long --accumulate 1000000000 --steps 5 --quiet $tiny 2>err.tmp &
    process=$!
    wait_for test -e long/log.jsonl || return 1
    sleep 1
    kill -s INT "$process"
    wait_for mentions err.tmp 'ending the step; again to quit' || return 1
    kill -s INT "$process"
    wait "$process"
    [ $? = 130 ]
}
quits()
{
    (
        # shellcheck disable=SC3045 # shells of systems that dump cores have it
        ulimit -c 0
        # shellcheck disable=SC2086
        "$quern" train gpt --data text --out quit --quiet --steps 1M $tiny &
        process=$!
        wait_for has_lines quit/log.jsonl 20 || exit 1
        kill -s QUIT "$process"
        wait "$process"
        [ $? = 131 ]
    )
}
# A step that the time ends between its passes is done again, whole.
ends_between_passes()
{
    set -- --accumulate 20 --dropout 0.1 --min-lr 1e-3 --eval-every 0 # the rate knows no last step
    train --out compiled --steps 1 "$@" || return 1 # that is not to count
    train --out passes --steps 1000000 --time 4 "$@" || return 1
    saved=$(readlink passes/latest)
    steps=$((${saved#step-} + 2))
    runs 0 train gpt --out passes --resume --steps "$steps" --quiet || return 1
    train --out whole --steps "$steps" "$@" || return 1
    same_latest passes whole
}
# Muon keeps other tensors than AdamW, by name; a run goes on with its own.
resumes_with_its_optimizer()
{
    set -- --optimizer muon --schedule linear --eval-every 0
    train --out muon --steps 4 "$@" || return 1
    refuses 2 'the run has muon' train gpt --out muon --resume --steps 6 --optimizer adamw || return 1
    runs 0 train gpt --out muon --resume --steps 6 --quiet
}
# A Llama goes through all commands, and goes on as if it had never stopped.
recurrent() # FOLDER STEPS MODEL OPTION...
{
    folder=$1 steps=$2 model=$3
    shift 3
    runs 0 train "$model" --data text --out "$folder" --quiet --eval-every 0 --width 16 --units 16 --context 16 --batch 4 --steps "$steps" "$@"
}
trains_recurrent()
{
    rm -rf recurrent whole-recurrent
    recurrent whole-recurrent 8 "$@" && recurrent recurrent 5 "$@" || return 1
    runs 0 train "$1" --out recurrent --resume --steps 8 --quiet || return 1
    same_latest recurrent whole-recurrent || return 1
    runs 0 generate recurrent --tokens 40 && runs 0 evaluate recurrent --data other && runs 0 inspect recurrent &&
        mentions out.tmp '16 units' || return 1
    refuses 2 "one of \`quern train $1\`" train gpt --out recurrent --resume --steps 9
}
refuses_layers()
{
    rm -rf layers
    recurrent layers 1 rnn --layers 2 && sed -i 's/"num_layers": 2/"num_layers": 1/' layers/latest/config.json || return 1
    refuses 1 '4 tensors are not of the model that config.json describes' evaluate layers --data other
}
follows_recipe()
{
    rm -rf of-recipe
    runs 0 train lstm --recipe keras-rnn --data text --out of-recipe --quiet --units 8 --batch 4 --context 16 --steps 2 &&
        grep -q '"optimizer": "adam"' of-recipe/latest/training.json && grep -q '"units": 8' of-recipe/latest/training.json || return 1
    refuses 2 'there is no "keras"; there is keras-rnn' train lstm --recipe keras --data text --out no || return 1
    refuses 2 'recipe is for new runs' train lstm --recipe keras-rnn --out of-recipe --resume || return 1
    refuses 2 'epochs is for new runs' train lstm --epochs 2 --out of-recipe --resume || return 1
    rm -rf of-recipe # --valid wins over the recipe's part that is held out
    runs 0 train lstm --recipe keras-rnn --data text --valid other --out of-recipe --quiet --units 8 --batch 4 --context 16 --steps 1
}
llama()
{
    runs 0 train llama --data text --out "$1" --quiet --kv-heads 1 --embeddings "$2" --eval-every 0 $tiny --steps "$3"
}
trains_llama()
{
    rm -rf llama whole-llama
    llama whole-llama "$1" 8 && llama llama "$1" 5 || return 1
    runs 0 train llama --out llama --resume --steps 8 --quiet || return 1
    same_latest llama whole-llama || return 1
    runs 0 generate llama --tokens 5 && runs 0 evaluate llama --data other && runs 0 inspect llama &&
        mentions out.tmp '2 heads (1 of keys)' || return 1
    refuses 2 'one of `quern train llama`' train gpt --out llama --resume --steps 9
}
# Checkpoints of activations change no bit, and may come and go.
forgets_activations()
{
    set -- --layers 2 --eval-every 0
    some=${tiny#--layers 1 }
    runs 0 train gpt --data text --out kept --steps 8 --quiet $some "$@" || return 1
    runs 0 train gpt --data text --out again --steps 5 --checkpoint-activations $some "$@" || return 1
    mentions err.tmp ', gradients ' && runs 0 train gpt --out again --resume --steps 8 --quiet || return 1
    cmp kept/latest/model.safetensors again/latest/model.safetensors || return 1
    rm -r kept again
}
# The log of a run in 16 bits has its scale and its skipped steps; it goes on exactly, as does the average that is saved.
keeps_16_bits()
{
    set -- --dtype "$@" --average 0.9 --schedule constant --eval-every 5
    train --out half --steps 12 "$@" && train --out halves --steps 7 "$@" || return 1
    refuses 2 "the run has $2" train gpt --out halves --resume --steps 12 --dtype f32 || return 1
    runs 0 train gpt --out halves --resume --steps 12 --quiet || return 1
    same_latest half halves || return 1
    [ "$(values half/log.jsonl loss | tail -n 1)" = "$(values halves/log.jsonl loss | tail -n 1)" ] || return 1
    values half/log.jsonl skipped >skipped.tmp
    [ "$2" = bf16 ] && [ "$(tail -n 1 skipped.tmp)" = 0 ] ||
        { [ "$(tail -n 1 skipped.tmp)" -gt 3 ] && [ "$(values half/log.jsonl loss_scale | tail -n 1)" -lt 1000000000000 ]; }
    status=$?
    rm -r half halves
    return $status
}
changed()
{
    refuses "$@" && [ "$(readlink one/latest)" = step-600 ]
}

check "killed thrice and resumed: the bytes of a run never stopped" goes_on_exactly
check "SIGINT saves" saves_on_signal INT 130
check "SIGTERM saves" saves_on_signal TERM 143
check "SIGINT in a long step is answered" says_it_ends
check "SIGQUIT quits" quits
check "--time ends between passes" ends_between_passes
check "another optimizer and schedule" resumes_with_its_optimizer
check "bf16, and an average of the weights" keeps_16_bits bf16
check "f16 with a scale that is far too high" keeps_16_bits f16 --loss-scale 1e12
check "a loss scale of f32" refuses 2 'means nothing to --dtype f32' train gpt --data text --out no --loss-scale 2
check "a type that there is not" refuses 2 'there are f32, f16, bf16' train gpt --data text --out no --dtype f8
check "an RNN" trains_recurrent rnn --nonlinearity relu
check "an LSTM of two layers with dropout" trains_recurrent lstm --layers 2 --dropout 0.1 --embeddings tied
check "a GRU in bf16 whose state is carried" trains_recurrent gru --dtype bf16 --state carry
check "a recipe" follows_recipe
check "parameters that a recurrent model has not" refuses_layers
check "rows too short to carry a state" refuses 1 'give more text, or make one of them smaller' train lstm --data short --valid-fraction 0 --out no --state carry --batch 9
check "steps and epochs" refuses 2 'exclude each other' train gru --data text --out no --steps 5 --epochs 1
check "a state that cannot be carried" refuses 2 'needs --accumulate 1' train lstm --data text --out no --state carry --accumulate 2
check "a Llama" trains_llama untied
check "a Llama with a tied head" trains_llama tied
check "checkpoints of activations" forgets_activations
check "no time for a step" refuses 1 '--time is over before a step' \
    train gpt --data text --out hasty --time 1 --accumulate 1000000000 --width 16
check "a run that is complete" runs 0 train gpt --out one --resume
check "more steps" runs 0 train gpt --out two --resume --steps 610 --quiet
check "an option that changed" changed 2 '--width 32: the run has 16' \
    train gpt --out one --resume --width 32 --steps 700
check "data that changed" changed 1 'is not what the run was trained on' \
    train gpt --out one --resume --data other --steps 700
check "a folder that holds a run" refuses 1 '--resume' train gpt --data text --out one
check "nothing to resume" refuses 1 'cannot open' train gpt --out nowhere --resume

# A limit on the size of files stands for a disk that is full.
survives_full_disk()
{
    train --out full --steps 10 --width 256 || return 1
    cp -r full before
    (
        ulimit -f 2500 # blocks of 512 or 1024 bytes: more than a kernel, less than a checkpoint
        refuses 1 'cannot' train gpt --out full --resume --steps 20
    ) || return 1
    diff -r full/step-10 before/step-10 && [ "$(readlink full/latest)" = step-10 ] || return 1
    [ ! -e full/step-20 ] && [ ! -e full/step-20.tmp ] || return 1
    runs 0 train gpt --out full --resume --steps 20 --quiet
}
check "a disk that fills while saving" survives_full_disk

# ---- The log ----

# What was there stays, and no folder is made.
refuses_log()
{
    cp "$1" log.tmp
    # shellcheck disable=SC2086
    refuses 1 "$2" train gpt --data text --valid other --config recipe --out no --log "$1" $tiny &&
        cmp "$1" log.tmp && untouched
}
makes_a_missing_log()
{
    runs 0 train gpt --out two --resume --steps 620 --log new.jsonl --quiet || return 1
    rm new.jsonl
    runs 0 train gpt --out two --resume --steps 630 --quiet && [ "$(wc -l <new.jsonl)" = 10 ]
}
survives_lost_log()
{
    train --out unlogged --steps 10 || return 1
    # A line so long that the log meets the limit soon: 2500 blocks of 512 bytes are more than a kernel.
    {
        sed '$d' unlogged/log.jsonl
        tail -n 1 unlogged/log.jsonl | tr -d '}\n'
        printf ', "long": "'
        head -c 1278000 /dev/zero | tr '\0' x
        echo '"}'
    } >long.tmp
    cp long.tmp unlogged/log.jsonl
    (
        ulimit -f 2500
        runs 1 train gpt --out unlogged --resume --steps 10000 --quiet
    ) || return 1
    mentions err.tmp 'cannot write the log' && mentions err.tmp '--out unlogged --resume' || return 1
    saved=$(readlink unlogged/latest)
    [ "$saved" != step-10 ] &&
        runs 0 train gpt --out unlogged --resume --steps "$((${saved#step-} + 5))" --quiet
}
echo '# none' >recipe
printf '{"text": "not a log"}\n' >precious
check "a log over the data" refuses_log text 'would write over'
check "a log over what is validated on" refuses_log other 'would write over'
check "a log over the configuration" refuses_log recipe 'would write over'
check "a log over another file" refuses_log precious 'no log of a run'
check "a device as a log" small 1 'no regular file' train gpt --data text --out no --log /dev/full
check "a device as the log of a run that goes on" refuses 1 'no regular file' \
    train gpt --out two --resume --steps 620 --log /dev/full
check "a folder as a log" small 1 'no regular file' train gpt --data text --out no --log .
check "a log that is missing is made" makes_a_missing_log
check "a log that cannot be written any more" survives_lost_log

# ---- Using the model ----

generates()
{
    runs 0 generate one --prompt 'the cat' --tokens 40 && mentions out.tmp 'the cat' &&
        mentions err.tmp 'tokens/s' && [ "$(wc -c <out.tmp)" -ge 48 ]
}
generates_again()
{
    cp out.tmp first.tmp
    runs 0 generate one --prompt 'the cat' --tokens 40 --quiet && cmp first.tmp out.tmp &&
        [ ! -s err.tmp ]
}
quits_generating()
{
    (
        # shellcheck disable=SC3045 # shells of systems that dump cores have it
        ulimit -c 0
        "$quern" generate one --tokens 1G --quiet >long.tmp &
        process=$!
        wait_for is_file long.tmp || exit 1
        kill -s QUIT "$process"
        wait "$process"
        [ $? = 131 ]
    )
}
generates_samples()
{
    runs 0 generate one --tokens 20 --samples 3 --temperature 0 && [ "$(grep -c '^---$' out.tmp)" = 2 ]
}
evaluates()
{
    runs 0 evaluate one --data other --json || return 1
    tokens=$(sed -n 's/.*"tokens": \([0-9]*\).*/\1/p' out.tmp)
    [ "$tokens" = "$(($(wc -c <other) - 1))" ] && mentions out.tmp '"bits_per_byte": ' &&
        runs 0 evaluate one/latest --data other && mentions out.tmp perplexity
}
# Bytes that NumPy reads: the head says f32 or i32 and the shape, and the values follow, 4 bytes each.
is_array()
{
    head -c 128 "$1" | tr -d '\0' | grep -a -q -F "{'descr': '$2', 'fortran_order': False, 'shape': ($3), }" &&
        [ "$(wc -c <"$1")" = $((128 + 4 * $4)) ] || {
        echo "$1:"
        od -c "$1" | head
        return 1
    }
}
dumps()
{
    runs 0 evaluate one --data other --dump transformer.h.0.attn=attn.npy transformer.h.0.attn.c_proj=c.npy --dump inputs=i.npy \
        --dump transformer.h.0=block.npy loss=loss.npy && mentions out.tmp perplexity &&
        is_array attn.npy '<f4' '1, 16, 16,' 256 && is_array i.npy '<i4' '1, 16,' 16 && is_array loss.npy '<f4' '' 1 &&
        is_array block.npy '<f4' '1, 16, 16,' 256 && ! cmp -s attn.npy block.npy
}
# After attention nothing but dropout comes, and none when measuring.
dumps_alike()
{
    cmp attn.npy c.npy
}
lists_names()
{
    runs 0 evaluate one --data other --dump list && mentions out.tmp 'transformer.h.0.mlp f32 [1,16,16]' &&
        mentions out.tmp 'transformer.wte.weight f32 [20,16]' && mentions out.tmp 'loss f32 []' && ! grep perplexity out.tmp &&
        runs 0 evaluate llama --data other --dump list && mentions out.tmp 'model.layers.0.self_attn f32 [1,' &&
        mentions out.tmp 'model.norm f32 [1,'
}
dumps_no_stranger()
{
    refuses 1 'has no node "transformer.h.9.attn\n"; --dump list' evaluate one --data other --dump "transformer.h.9.attn
=x.npy" && refuses 2 '"attn" is neither NAME=FILE nor list' evaluate one --data other --dump attn &&
        refuses 2 'is neither NAME=FILE nor list' evaluate one --data other --dump loss= &&
        refuses 1 'nowhere/x.npy: No such file' evaluate one --data other --dump loss=nowhere/x.npy &&
        refuses 1 'one: ' evaluate one --data other --dump loss=one
}
inspects()
{
    runs 0 inspect one && mentions out.tmp wte && runs 0 inspect one/best/model.safetensors
}

check "generates" generates
check "the same seed gives the same text" generates_again
check "several samples" generates_samples
check "SIGQUIT ends it" quits_generating
check "evaluates" evaluates
check "dumps what named nodes compute" dumps
check "... the same under two names" dumps_alike
check "... and lists the names" lists_names
check "... but no node that there is not, nor where it cannot" dumps_no_stranger
check "inspects" inspects

# ---- What is refused ----

without_platforms()
{
    OCL_ICD_VENDORS=/nonexistent OCL_ICD_FILENAMES='' refuses 1 "$@"
}
on_device()
{
    QUERN_DEVICE=$1
    export QUERN_DEVICE
    shift
    refuses "$@"
}
with_twins()
{
    POCL_DEVICES='pthread pthread' refuses "$@"
}
with_twins_runs()
{
    POCL_DEVICES='pthread pthread' runs 0 "$@"
}
with_kernels()
{
    mkdir broken
    cp "$SRCDIR"/cl/*.cl broken
    echo 'kernel void broken(' >>broken/common.cl
    QUERN_CL_DIR=broken small 1 "$@"
}
: >empty
printf 'short' >short
mkdir lying
check "no platform" without_platforms quern train gpt --data text --out no
check "an unknown device" small 1 'nonesuch' train gpt --data text --out no --device nonesuch
check "an unknown device, by the environment" on_device nonesuch 1 nonesuch train gpt --data text --out no
if "$quern" devices | grep -q pthread; then
    check "two equal devices" with_twins 1 'names several devices' generate one --device pthread
    check "one of them" with_twins_runs generate one --device portable --tokens 5
else
    skip "two equal devices: no PoCL"
fi
check "missing data" small 1 'No such file' train gpt --data missing --out no
check "empty data" small 1 'empty is empty' train gpt --data empty --out no
check "data that is too short" small 1 'needs at least' train gpt --data short --out no
check "a folder as data" small 1 'folder' train gpt --data lying --out no
check "a missing tokenizer" small 1 '--tokenizer takes char|byte|word|bpe|PATH: ' train gpt --data text --out no --tokenizer nothing-here
check "a width that heads do not divide" refuses 2 '--width 130 must be a multiple of --heads 4' \
    train gpt --data text --out no --width 130
check "heads that cannot share keys" refuses 2 'must be a multiple of --kv-heads 3' train llama --data text --out no --kv-heads 3
check "heads of an odd size" refuses 2 'makes heads of 5 numbers' train llama --data text --out no --width 20 --heads 4
check "heads that are too wide" refuses 2 'take --heads 4' train gpt --data text --out no --width 1024 --heads 1
check "absurd sizes" refuses 1 'width' \
    train gpt --data text --out no --width 10000000 --heads 50000 --layers 100000
check "a batch that does not fit" refuses 1 'the largest that does is --batch' \
    train gpt --data text --out no --batch 100000000 --context 16
check "an unknown option" refuses 2 'did you mean --width' train gpt --data text --out no --widht 3
check "a word for a number" refuses 2 'whole number' train gpt --data text --out no --layers two
check "a least rate above the rate" refuses 2 '--min-lr' train gpt --data text --out no --lr 1e-5 --min-lr 1
check "an optimizer that there is not" refuses 2 'there are adamw, adam' train gpt --data text --out no --optimizer adamv
check "an option of another optimizer" refuses 2 'means nothing to --optimizer adamw' train gpt --data text --out no --momentum 0.9
check "an option of another schedule" refuses 2 'means nothing to --schedule cosine' train gpt --data text --out no --gamma 0.5
check "a schedule that there is not" refuses 2 'no "cosin"' train gpt --data text --out no --schedule cosin
check "nothing was written" untouched
check "kernels that do not compile" with_kernels 'does not compile' train gpt --data text --out unbuilt
check "an unknown character in the prompt" refuses 1 'the prompt' generate one --prompt 'the %'
check "an empty prompt" refuses 2 '--prompt' generate one --prompt ''
check "a folder without a model" refuses 1 'no model' generate lying
check "a model that is missing" refuses 1 'missing-model' evaluate missing-model --data text

# Copies of the model, each damaged in one place.
damaged()
{
    rm -rf lying
    mkdir lying
    cp one/model.safetensors one/config.json one/tokenizer.json lying
}
truncated()
{
    damaged
    head -c 5000 one/model.safetensors >lying/model.safetensors
    refuses 1 model.safetensors generate lying && refuses 1 model.safetensors inspect lying
}
other_shape()
{
    damaged
    sed 's/"n_layer": 1/"n_layer": 2/' one/config.json >lying/config.json
    refuses 1 model.safetensors generate lying
}
infinite_weights()
{
    damaged
    bytes=$(wc -c <lying/model.safetensors)
    head -c "$((bytes - 4))" one/model.safetensors >lying/model.safetensors
    printf '\000\000\200\177' >>lying/model.safetensors
    refuses 1 'infinite or NaN' generate lying && refuses 1 'infinite or NaN' evaluate lying --data text
}
wrong_type()
{
    damaged
    sed "$2" "one/$1" >"lying/$1"
    refuses 1 "$1" generate lying
}
wrong_training()
{
    rm -rf lying
    cp -r one lying
    sed "$1" one/latest/training.json >lying/latest/training.json
    refuses 1 training.json train gpt --out lying --resume --steps 700
}

check "safetensors that are cut off" truncated
check "weights that are infinite" infinite_weights
check "a config that promises another shape" other_shape
check "a config of wrong types" wrong_type config.json 's/"n_embd": 16/"n_embd": "16"/'
check "a tokenizer of wrong types" wrong_type tokenizer.json 's/"vocab": {/"vocab": [{/'
check "a training.json of wrong types" wrong_training 's/"layers": 1/"layers": "one"/'
check "a training.json out of bounds" wrong_training 's/"batch": 4/"batch": -4/'
done_testing
