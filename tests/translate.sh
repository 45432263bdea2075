#!/bin/sh
# Encoder-decoders end to end, on the default device: trained, resumed, and what is refused.
. "$SRCDIR/tests/models.sh.inc"

# The target is the source backwards.
make_pairs()
{
    make_data && cut -f2 train.tsv >source.txt && awk '{ line = ""; for (i = NF; i > 0; i--) line = line $i " "; print line }' source.txt >target.txt
}
pairs='--source source.txt --target target.txt --quiet --width 16 --batch 120 --tokenizer word --warmup 5 --lr 0.005 --max-tokens 40'
translates()
{
    family=$1
    shift
    # shellcheck disable=SC2086
    runs 0 train "$family" $pairs --layers 1 --steps 9 --eval-every 4 --out "$family" "$@" &&
        runs 0 train "$family" $pairs --layers 1 --steps 6 --eval-every 4 --out "$family-halves" "$@" &&
        runs 0 train "$family" --out "$family-halves" --resume --steps 9 --quiet && same_latest "$family" "$family-halves" &&
        runs 0 inspect "$family"
}
# PoCL keeps what it compiles in files: here, so that other tests add none.
export POCL_CACHE_DIR="$folder/pocl" QUERN_CACHE_DIR="$folder/pocl/quern"
compiles_once()
{
    # shellcheck disable=SC2086
    runs 0 train transformer $pairs --layers 1 --heads 2 --inner 24 --epochs 1 --schedule constant --out twice || return 1
    first=$(find pocl -name '*.so' | wc -l)
    steps=$(wc -l <twice/log.jsonl)
    runs 0 train transformer --out twice --resume --steps $((3 * steps)) --quiet || return 1
    second=$(find pocl -name '*.so' | wc -l)
    echo "$steps steps and $first kernels in the first epoch, $second after three"
    [ "$first" = "$second" ]
}
check "pairs are made" make_pairs
check "after the first epoch nothing is compiled" compiles_once
check "a Transformer is resumed within an epoch" translates transformer --heads 2 --inner 24
check "it is a Marian" mentions out.tmp 'marian'
check "a recurrent one is, with a tokenizer for each side" translates seq2seq --units 16 --target-tokenizer word --model gru
check "which are both there" [ -e seq2seq/best/target_tokenizer.json ]
# With an epoch of some 50 steps, and a kill between two checkpoints.
goes_on_exactly()
{
    # shellcheck disable=SC2086
    set -- train transformer $pairs --layers 1 --heads 2 --inner 24 --steps 150 --eval-every 20
    runs 0 "$@" --out whole || return 1
    "$quern" "$@" --out killed &
    process=$!
    for lines in 31 93; do
        wait_for has_lines killed/log.jsonl "$lines" || return 1
        kill -9 "$process"
        wait "$process" 2>/dev/null
        "$quern" train transformer --out killed --resume --quiet &
        process=$!
    done
    wait "$process" && same_latest whole killed && cmp whole/model.safetensors killed/model.safetensors
}
check "killed twice within an epoch: the bytes of a run never stopped" goes_on_exactly

uneven()
{
    sed 1d target.txt >short.txt
    # shellcheck disable=SC2086
    refuses 'has 400 lines, but short.txt has 399' train transformer $pairs --out no --target short.txt
}
check "sides of different length" uneven
# shellcheck disable=SC2086
check "a tokenizer of the target that is none" refuses '--target-tokenizer takes joint|char|word|bpe|PATH: ' train transformer $pairs --out no --target-tokenizer words
translates_lines()
{
    runs 0 translate transformer --data source.txt --beam 3 && [ "$(wc -l <out.tmp)" = 400 ] && mentions err.tmp 'beam 3' &&
        cp out.tmp all.tmp && { head -3 source.txt && echo && sed -n 4p source.txt; } >some.txt && runs 0 translate transformer --beam 3 <some.txt &&
        { head -3 all.tmp && echo && sed -n 4p all.tmp; } >expected.tmp && cmp out.tmp expected.tmp
}
gives_several()
{
    runs 0 translate seq2seq --data some.txt --beam 4 --n-best 3 --scores --batch 2 --quiet && [ "$(wc -l <out.tmp)" = 15 ] && [ ! -s err.tmp ] &&
        awk -F '\t' 'NR % 3 != 1 && NF == 2 && $1 > before { exit 1 } { before = $1 }' out.tmp
}
takes_ids()
{
    echo '8 9 10 3' >ids.txt && runs 0 translate transformer --ids --data ids.txt --max-length 6 && grep -qE '^[0-9]+( [0-9]+)*$' out.tmp &&
        echo '8 9999999' >ids.txt && refuses 'ids.txt:1: expected' translate transformer --ids --data ids.txt
}
averages()
{
    # shellcheck disable=SC2086
    runs 0 train seq2seq $pairs --units 16 --layers 1 --model gru --steps 9 --eval-every 2 --keep 3 --out kept && [ -d kept/step-6 ] && [ -d kept/step-9 ] &&
        runs 0 average kept --last 3 --out mean --quiet && [ "$(echo mean.*.tmp)" = 'mean.*.tmp' ] && runs 0 translate mean --data some.txt --quiet && runs 0 inspect mean &&
        runs 0 average kept --last 1 --out one/ && cmp one/model.safetensors kept/step-9/model.safetensors &&
        refuses 'train with --keep 6' average kept --last 6 --out no && refuses 'exists' average kept --last 2 --out mean
}
check "lines are translated, in order, empty ones too" translates_lines
check "several translations of each, with scores" gives_several
# At temperature 0 the likeliest is drawn; a seed, said or not, gives the same again, another one another text.
draws_texts()
{
    runs 0 translate transformer --data some.txt --beam 1 --quiet && cp out.tmp greedy.tmp &&
        runs 0 translate transformer --data some.txt --sample --temperature 0 --quiet && cmp out.tmp greedy.tmp &&
        runs 0 translate transformer --data some.txt --sample --n-best 2 --temperature 1 && cp out.tmp drawn.tmp && [ "$(wc -l <out.tmp)" = 10 ] &&
        mentions err.tmp 'drawn, temperature 1, top 40, top 0.95 of the probability' &&
        runs 0 translate transformer --data some.txt --sample --n-best 2 --temperature 1 --seed 1337 --quiet && cmp out.tmp drawn.tmp &&
        runs 0 translate transformer --data some.txt --sample --n-best 2 --temperature 1 --seed 1 --quiet && ! cmp -s out.tmp drawn.tmp &&
        usage_error '--seed says nothing without --sample' translate transformer --seed 1 &&
        usage_error '--early-stopping and --sample exclude each other' translate transformer --sample --early-stopping &&
        usage_error '--sample and --beam exclude each other' translate transformer --sample --beam 2
}
check "texts are drawn" draws_texts
# Maps of one picture, whatever is drawn in them.
draws()
{
    runs 0 translate transformer --data some.txt --beam 2 --quiet --attention map.svg && [ "$(grep -c '>head [12]<' map.svg)" = 2 ] &&
        runs 0 translate transformer --data some.txt --quiet --attention mean.svg --attention-heads mean && [ "$(grep -c 'mean of 2 heads' mean.svg)" = 1 ] &&
        grep -q '&lt;eos>' mean.svg && runs 0 translate seq2seq --data some.txt --quiet --attention one.svg && grep -q '<title>' one.svg &&
        refuses 'the decoder has 1 blocks' translate transformer --data some.txt --attention no --attention-block 2 &&
        usage_error '--attention-heads says nothing without --attention' translate transformer --attention-heads mean
}
# Before anything is translated; and where there is nothing to draw, nothing is left.
draws_nothing()
{
    refuses 'cannot write no/map.svg' translate transformer --data some.txt --attention no/map.svg && [ ! -s out.tmp ] &&
        echo >blank.txt && runs 0 translate transformer --data blank.txt --attention nothing.svg && mentions err.tmp 'nothing.svg is not written' &&
        [ "$(cat out.tmp)" = "" ] && [ "$(echo nothing.svg*)" = 'nothing.svg*' ] &&
        runs 0 translate transformer --data some.txt --quiet --attention /dev/null && [ -c /dev/null ] &&
        "$quern" translate transformer --data some.txt --quiet --attention /dev/stderr 2>&1 >/dev/null | grep -q '^</svg>'
}
# No lines give no lines.
takes_nothing()
{
    : >nothing.txt && runs 0 translate transformer --data nothing.txt && [ ! -s out.tmp ] && mentions err.tmp 'translated  0 lines' &&
        runs 0 translate transformer --data /dev/null --quiet && [ ! -s out.tmp ]
}
# When all tokens were said there is none left that may follow, though the end may not come yet.
runs_out_of_tokens()
{
    head -3 source.txt >three.txt && runs 0 translate transformer --data three.txt --no-repeat-ngram 1 --min-length 39 --quiet &&
        [ "$(grep -c '[a-z]' out.tmp)" = 3 ] && refuses 'tokens before the end are asked for' translate transformer --data three.txt --min-length 1000 &&
        runs 0 translate transformer --data three.txt --sample --no-repeat-ngram 1 --min-length 39 --scores --quiet && [ "$(grep -c '[a-z]' out.tmp)" = 3 ] &&
        ! grep -qE '^-[0-9]{4}' out.tmp && ! awk '{ for (i = 2; i <= NF; i++) print NR, $i }' out.tmp | sort | uniq -d | grep . || return 1
    echo a >one.txt && runs 0 translate transformer --data one.txt --min-length 38 --quiet && [ "$(wc -w <out.tmp)" -ge 38 ]
}
# A label is cut between characters, not in one.
cuts_labels()
{
    sed 's/cat/abcdefghijk\xc3\xa4xyz/' source.txt >long.txt
    # shellcheck disable=SC2086
    runs 0 train seq2seq $pairs --source long.txt --tokenizer word --target-tokenizer word --units 16 --layers 1 --model gru --steps 2 --out words &&
        grep -m 1 abcdefghijk long.txt | "$quern" translate words --quiet --attention long.svg >/dev/null && grep -q "$(printf '>abcdefghijk\303\244<')" long.svg
}
# Tokens that are parts of characters, of a model that knows nothing yet.
takes_bytes()
{
    sed 's/cat/K\xc3\xa4tzchen \xe2\x82\xac/; s/dog/H\xc3\xbcndchen/' target.txt >umlauts.txt && "$quern" tokenize train --data umlauts.txt --vocab 262 --out bytes --quiet &&
        runs 0 train transformer $pairs --target umlauts.txt --tokenizer bytes --layers 1 --heads 2 --inner 24 --steps 4 --eval-every 2 --out byte-level &&
        runs 0 translate byte-level --data some.txt --beam 60 --n-best 60 --max-length 4 --quiet && [ "$(wc -l <out.tmp)" = 300 ] && iconv -f utf-8 -t utf-8 out.tmp >/dev/null
}
takes_characters()
{
    runs 0 train seq2seq $pairs --tokenizer char --units 16 --steps 2 --max-tokens 200 --out characters && runs 0 translate characters --data some.txt --quiet
}
check "a long word on a map" cuts_labels
check "ids of tokens" takes_ids
# What transformers gave for a Marian of its own: golden/models/marian/generate.json.
is_exact()
{
    printf '21 21 46 8\n51 76 58 60 81 55 62\n44 26 31 55 7 43 19 30 20 84 55\n' >sources.ids
    runs 0 translate "$marian" --data sources.ids --ids --beam 4 --max-length 24 --scores --quiet &&
        printf '%s\t85 40 78\n' -0.671623 -0.433603 -0.531908 | diff - out.tmp &&
        runs 0 translate "$marian" --data sources.ids --ids --beam 4 --max-length 24 --scores --quiet --length-penalty 2 && diff - out.tmp <<END
-0.058176	6 16 38 85 30 39 6 16 38 85 30 30 39 74 67 22 22 5 5 5 5 5 5 5
-0.045651	85 40 93 25 15 15 42 22 5 85 40 25 15 42 22 5 85 40 5 85 40 5 85 40
-0.062411	6 16 38 85 30 39 74 67 22 5 5 6 16 38 85 22 22 5 5 5 5 5 85 40
END
}
# The same with the end forced where a text is as long as may be, by config.json; and with a token that is never said, by generation_config.json.
heeds_generation_options()
{
    cp -r "$marian" forced && chmod -R u+w forced && rm forced/generation_config.json &&
        sed -i 's/"forced_eos_token_id": null/"forced_eos_token_id": 78/' forced/config.json &&
        runs 0 translate forced --data sources.ids --ids --beam 4 --max-length 24 --scores --quiet --length-penalty 2 && diff - out.tmp <<END || return 1
-0.056669	6 16 38 85 30 39 6 16 38 85 30 30 39 74 67 22 22 5 5 5 5 5 5 78
-0.044325	85 40 93 25 15 42 22 5 85 40 25 15 42 22 5 85 40 5 85 40 5 85 40 78
-0.059398	6 16 38 85 30 39 74 67 22 5 5 6 16 38 85 22 22 5 5 5 5 5 85 78
END
    sed -i 's/"pad_token_id": 94/"pad_token_id": 85/' forced/config.json && echo '{"bad_words_ids": [[85]]}' >forced/generation_config.json &&
        runs 0 translate forced --data sources.ids --ids --beam 4 --max-length 24 --scores --quiet && diff - out.tmp <<END || return 1
-1.351917	6 16 38 40 5 6 16 38 16 38 40 5 5 5 5 5 5 5 5 5 5 6 16 38
-1.762201	6 16 38 40 5 5 6 16 38 40 5 5 6 16 38 40 5 5 5 5 5 5 5 5
-1.546784	6 16 38 40 5 5 6 16 38 16 38 40 5 5 5 5 5 5 5 5 5 6 16 38
END
    echo '{"bad_words_ids": [[85], [3, 4]]}' >forced/generation_config.json && refuses 'bad_words_ids: expected [[85]]' translate forced --data sources.ids --ids &&
        echo '{"eos_token_id": [78, 3]}' >forced/generation_config.json && refuses 'eos_token_id: expected 78 alone' translate forced --data sources.ids --ids
}
marian=${QUERN_SHARED-$SRCDIR/../shared}/golden/models/marian
if [ -d "$marian" ]; then
    check "a Marian of Hugging Face gives what transformers gave" is_exact
    check "with an end that is forced, and a token that is forbidden" heeds_generation_options
else
    skip "a Marian of Hugging Face is not there: \$QUERN_SHARED is the folder that has golden/models/marian"
fi
check "tokens of bytes" takes_bytes
check "characters" takes_characters
check "attention is drawn" draws
check "attention that cannot be drawn" draws_nothing
check "no lines" takes_nothing
check "no token is left" runs_out_of_tokens
check "the mean of checkpoints that are kept" averages
check "more translations than hypotheses" usage_error '--n-best 3 is more than the --beam 2' translate transformer --n-best 3 --beam 2
# shellcheck disable=SC2086
check "patience with one validation" refuses 'the only validation' train transformer $pairs --layers 1 --out no --patience 2 --eval-every 0
# shellcheck disable=SC2086
check "patience without validation" refuses 'there is nothing to validate on' train transformer $pairs --layers 1 --out no --patience 2 --valid-fraction 0
check "half of the files to validate on" refuses 'belong together' train seq2seq --source source.txt --target target.txt --out no --valid-source source.txt
check "nothing was left behind" [ ! -e no ]
done_testing
