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
check "a recurrent one is, with a tokenizer for each side" translates seq2seq --units 16 --vocabularies separate --model gru
check "which are both there" [ -e seq2seq/best/target_tokenizer.json ]
uneven()
{
    sed 1d target.txt >short.txt
    # shellcheck disable=SC2086
    refuses 'has 400 lines, but short.txt has 399' train transformer $pairs --out no --target short.txt
}
check "sides of different length" uneven
check "half of the files to validate on" refuses 'belong together' train seq2seq --source source.txt --target target.txt --out no --valid-source source.txt
check "nothing was left behind" [ ! -e no ]
done_testing
