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
check "pairs are made" make_pairs
check "a Transformer is resumed within an epoch" translates transformer --heads 2 --inner 24
check "it is a Marian" mentions out.tmp 'marian'
check "a recurrent one is, with a tokenizer for each side" translates seq2seq --units 16 --target-tokenizer word --model gru
check "which are both there" [ -e seq2seq/best/target_tokenizer.json ]
# PoCL keeps what it compiles in files.
compiles_once()
{
    # shellcheck disable=SC2086
    (
        export POCL_CACHE_DIR="$folder/pocl" QUERN_CACHE_DIR="$folder/pocl/quern"
        runs 0 train transformer $pairs --layers 1 --heads 2 --inner 24 --epochs 1 --schedule constant --out twice || exit 1
        first=$(find pocl -name '*.so' | wc -l)
        steps=$(wc -l <twice/log.jsonl)
        runs 0 train transformer --out twice --resume --steps $((3 * steps)) --quiet || exit 1
        second=$(find pocl -name '*.so' | wc -l)
        echo "$steps steps and $first kernels in the first epoch, $second after three"
        [ "$first" = "$second" ]
    )
}
check "after the first epoch nothing is compiled" compiles_once

uneven()
{
    sed 1d target.txt >short.txt
    # shellcheck disable=SC2086
    refuses 'has 400 lines, but short.txt has 399' train transformer $pairs --out no --target short.txt
}
check "sides of different length" uneven
# shellcheck disable=SC2086
check "a tokenizer of the target that is none" refuses -- '--target-tokenizer takes char|byte|word|bpe|PATH: ' train transformer $pairs --out no --target-tokenizer words
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
    runs 0 train seq2seq $pairs --units 16 --steps 9 --eval-every 2 --keep 3 --out kept && [ -d kept/step-6 ] && [ -d kept/step-9 ] &&
        runs 0 average kept --last 3 --out mean --quiet && runs 0 translate mean --data some.txt --quiet && runs 0 inspect mean &&
        runs 0 average kept --last 1 --out one && cmp one/model.safetensors kept/step-9/model.safetensors &&
        refuses 'train with --keep 6' average kept --last 6 --out no && refuses 'File exists' average kept --last 2 --out mean
}
check "lines are translated, in order, empty ones too" translates_lines
check "several translations of each, with scores" gives_several
# Maps of one picture, whatever is drawn in them.
draws()
{
    runs 0 translate transformer --data some.txt --beam 2 --quiet --attention map.svg && [ "$(grep -c '>head [12]<' map.svg)" = 2 ] &&
        runs 0 translate transformer --data some.txt --quiet --attention mean.svg --attention-heads mean && [ "$(grep -c 'mean of 2 heads' mean.svg)" = 1 ] &&
        grep -q '&lt;eos>' mean.svg && runs 0 translate seq2seq --data some.txt --quiet --attention one.svg && grep -q '<title>' one.svg &&
        refuses 'the decoder has 1 blocks' translate transformer --data some.txt --attention no --attention-block 2
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
check "ids of tokens" takes_ids
check "tokens of bytes" takes_bytes
check "characters" takes_characters
check "attention is drawn" draws
check "the mean of checkpoints that are kept" averages
check "more translations than hypotheses" usage_error '--n-best 3 is more than the --beam 2' translate transformer --n-best 3 --beam 2
check "half of the files to validate on" refuses 'belong together' train seq2seq --source source.txt --target target.txt --out no --valid-source source.txt
check "nothing was left behind" [ ! -e no ]
done_testing
