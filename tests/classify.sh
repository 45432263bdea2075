#!/bin/sh
# Classifiers end to end, on the default device: trained, resumed, used, and what is refused.
. "$SRCDIR/tests/models.sh.inc"

tiny='--width 12 --units 12 --batch 16 --warmup 5 --lr 0.01 --schedule constant --dropout 0.1'

classify()
{
    # shellcheck disable=SC2086
    runs 0 train classify --data train.tsv --quiet $tiny "$@"
}
learns()
{
    classify --out "$1" --model "$1" --pooling "$2" --epochs 8 && runs 0 predict "$1" --data test.tsv --score --json &&
        percentage accuracy && [ "$number" -ge 95 ]
}
# The percentage that a key of out.tmp has.
percentage()
{
    number=$(sed -n "s/.*\"$1\": \\([0-9.]*\\).*/\\1/p" out.tmp | head -1 | awk '{print int(100 * $1)}')
    echo "$1: $number%"
}
says_scores()
{
    runs 0 predict lstm --data test.tsv --score && mentions out.tmp 'majority' && mentions out.tmp 'macro F1' &&
        mentions out.tmp 'confusion' && mentions out.tmp 'of 100 texts'
}
labels_lines()
{
    "$quern" predict lstm <test.txt >lines.tmp && [ "$(wc -l <lines.tmp)" = 100 ] &&
        [ "$(paste lines.tmp test.labels | awk '$1 == $2' | wc -l)" -ge 95 ]
}
labels_alike()
{
    "$quern" predict lstm --data test.tsv --batch 7 >file.tmp && cmp lines.tmp file.tmp &&
        # shellcheck disable=SC2002
        cat test.txt | "$quern" predict lstm >pipe.tmp && cmp lines.tmp pipe.tmp
}
has_probabilities()
{
    runs 0 predict lstm --data test.tsv --probabilities && cut -f1 out.tmp | cmp - lines.tmp &&
        awk -F '\t' '{ s = $2 + $3; if (NF != 3 || s < 0.99999 || s > 1.00001 || ($1 == "up") != ($3 > $2)) exit 1 }' out.tmp &&
        runs 0 predict lstm --data test.tsv --json && [ "$(wc -l <out.tmp)" = 100 ] && mentions out.tmp '"probabilities":{"down":'
}
resumes()
{
    classify --out whole --steps 40 --eval-every 7 && classify --out halves --steps 33 --eval-every 7 &&
        runs 0 train classify --out halves --resume --steps 40 --quiet && same_latest whole halves
}
accumulates()
{
    classify --out sums --steps 6 --accumulate 3 && classify --out parts --steps 4 --accumulate 3 &&
        runs 0 train classify --out parts --resume --steps 6 --quiet && same_latest sums parts
}
reads_json()
{
    # shellcheck disable=SC2086
    runs 0 train classify --data train.jsonl --text body --label class --out json --steps 40 --eval-every 7 --quiet $tiny &&
        cmp json/latest/model.safetensors whole/latest/model.safetensors
}
validates_file()
{
    classify --out with-file --valid test.tsv --steps 5 --tokenizer char --model rnn --nonlinearity relu --direction forward &&
        grep -q '"valid_accuracy"' with-file/log.jsonl && runs 0 inspect with-file && mentions out.tmp 'rnn (relu) for labels of texts'
}
inspects()
{
    runs 0 inspect lstm && mentions out.tmp 'lstm for labels of texts' && mentions out.tmp '2 labels: "down" "up"'
}
skips_damaged()
{
    { printf 'up\t \nup\n' && cat train.tsv && printf 'up\ta \377\n'; } >bad.tsv
    # shellcheck disable=SC2086
    runs 0 train classify --data bad.tsv --out skipped --damaged skip --steps 2 $tiny && mentions err.tmp 'bad.tsv:1: ' &&
        mentions err.tmp 'bad.tsv:2: ' && mentions err.tmp 'bad.tsv:403: '
}

# Labels that only what is held out has, if they were not learnt from all of the data.
learns_rare_labels()
{
    { cat train.tsv && for i in 1 2 3 4 5 6 7 8 9; do printf 'rare%s\ta cat %s\n' $i $i; done; } >rare.tsv
    # shellcheck disable=SC2086
    runs 0 train classify --data rare.tsv --valid-fraction 0.5 --out rare --steps 2 --quiet $tiny && runs 0 inspect rare && mentions out.tmp ' 11 labels'
}
leaves_lines()
{
    { sed -n 1p test.txt && echo && sed -n '2,3p' test.txt && printf '\377\n'; } >holes.txt && runs 0 predict lstm --data holes.txt --damaged skip &&
        cut -c 1 out.tmp | tr '\n' . >found.tmp && { sed -n 1p lines.tmp && echo && sed -n '2,3p' lines.tmp && echo; } | cut -c 1 | tr '\n' . | cmp - found.tmp &&
        mentions err.tmp 'holes.txt:2: ' && mentions err.tmp 'holes.txt:5: '
}
check "texts are made" make_data
check "an LSTM learns which word comes last" learns lstm last
check "a GRU does, by the mean" learns gru mean
check "it is scored, with the majority beside it" says_scores
check "lines of standard input are labelled" labels_lines
check "as those of a file, in other batches, and of a pipe" labels_alike
check "what is skipped leaves its line" leaves_lines
check "labels are those of all the data" learns_rare_labels
check "with probabilities, and as JSON" has_probabilities
check "resuming within an epoch gives the same bits" resumes
check "with accumulation, too" accumulates
check "JSON Lines with other keys" reads_json
check "a file to validate on; characters; an RNN in one direction" validates_file
check "inspect tells what it is" inspects
check "damaged records are told about and left out" skips_damaged

grep '^up' train.tsv >ups.tsv
printf 'a cat\n\na dog\n' >empty.txt
cp -r lstm other
sed 's/"lstm"/"gpt2"/; s/id2label/labels/' lstm/best/config.json >config.tmp && rm other/best/config.json && mv config.tmp other/best/config.json
printf '{"label": "a\\tb", "text": "x"}\n{"label": "c", "text": "x"}\n' >tab.jsonl
mkfifo pipe.tsv
cp -r lstm damaged && rm damaged/best/config.json && echo '{' >damaged/best/config.json
new='train classify --out no --steps 2'
# shellcheck disable=SC2086
{
    check "a damaged record ends it" refuses 'bad.tsv:1: ' $new --data bad.tsv
    check "no such column" refuses 'train.tsv:1: ' $new --data train.tsv --text 3
    check "no such key" refuses 'train.jsonl:1: ' $new --data train.jsonl
    check "no number of a column" refuses 'expected the number of a column' $new --data train.tsv --label class
    check "one label for all" refuses 'all records have the label "up"' $new --data ups.tsv
    check "a model of another kind" usage_error '--nonlinearity means nothing to --model lstm' $new --data train.tsv --nonlinearity relu
    check "predict wants a classifier" refuses 'is no classifier' predict other
    check "a label with a tab" refuses 'has a tab' $new --data tab.jsonl --valid-fraction 0
    check "a pipe" refuses 'is no regular file' $new --data pipe.tsv
    check "a damaged folder" refuses 'not JSON' predict damaged
    check "generate refuses one" refuses 'quern predict' generate lstm
    check "lines have no labels" refuses 'plain lines have no labels' predict lstm --data test.txt --score
    check "an empty line has no label" refuses 'empty.txt:2: an empty line' predict lstm --data empty.txt
}
changed_data()
{
    cp train.tsv moved.tsv && classify --out moved --steps 2 --data moved.tsv && echo 'up	more' >>moved.tsv &&
        refuses 'is not what the run was trained on' train classify --out moved --resume --steps 3
}
unknown_label()
{
    sed '5s/^[a-z]*/left/' test.tsv >left.tsv
    refuses 'left.tsv:5: ' predict lstm --data left.tsv --score
}
check "data that was changed" changed_data
check "a label that the model does not have" unknown_label
check "nothing was left behind" [ ! -e no ]
done_testing
