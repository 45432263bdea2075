#!/bin/sh
# `quern score`: its metrics, their files, and mistakes in them.  tests/scores.c has the figures.
command='score'
. "$SRCDIR/tests/command.sh"

printf 'The cat (sat) on the mat.\nno match\n' >found
printf 'A cat sat on a mat.\nthere is none\n' >right
printf 'The cat is on the mat!\n\n' >other
printf 'one\n' >short
: >empty
printf 'a\n\351\n' >latin
printf 'a\nb\000\n' >binary

# What stdout is to the letter.
prints()
{
    printf '%s\n' "$1" >expected.tmp
    shift
    exits 0 "$@" && diff expected.tmp out.tmp
}
refuses()
{
    message=$1
    shift
    exits 1 "$@" && [ ! -s out.tmp ] && mentions err.tmp "$message"
}

# sacrebleu's own line.
bleu='BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 11.07 45.5/11.1/7.1/4.2 (BP = 1.000 ratio = 1.100 hyp_len = 11 ref_len = 10)'
check "bleu" prints "$bleu" bleu --reference right found
from_stdin()
{
    prints "$bleu" bleu -r right <found
}
check "hypotheses from stdin" from_stdin
has_all()
{
    exits 0 bleu -r right -r other --uneven --lowercase --tokenize none --smooth floor --smooth-value 0.5 --json found || return 1
    for part in '"score": ' '"signature": "nrefs:var|case:lc|eff:no|tok:none|smooth:floor\[0.50\]|version:2.6.0"' '"counts": \[' \
        '"totals": \[' '"hypothesis_words": 8' '"reference_words": 9' '"brevity_penalty": 0.88' '"lines": 2'; do
        mentions out.tmp "$part" || return 1
    done
}
check "bleu in JSON, with every option" has_all
check "an empty line is an empty reference without --uneven" prints \
    'chrF2|nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0 = 41.70' chrf -r right -r other found
check "chrf" prints 'chrF2++|nrefs:var|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0 = 42.22' \
    chrf -r right -r other --uneven --word-order 2 found
is_rouge()
{
    exits 0 rouge -r right found && mentions out.tmp '^rougeLsum  precision 0.3333  recall 0.3333  F1 0.3333$' &&
        [ "$(wc -l <out.tmp)" = 4 ] && exits 0 rouge --stem --json -r right found && mentions out.tmp '"stem": true'
}
check "rouge" is_rouge

printf 'yes\nno\nno\nperhaps\n' >gold.labels
printf 'yes\nyes\nno\nno\n' >labels
is_accuracy()
{
    exits 0 accuracy -r gold.labels labels && mentions out.tmp '^accuracy 0.5000$' &&
        mentions out.tmp '^macro average  *precision 0.3333  recall 0.5000  F1 0.3889  4$' || return 1
    exits 0 accuracy -r gold.labels --json labels && tr -d ' \n' <out.tmp >flat.tmp &&
        mentions flat.tmp '"confusion_matrix":\[\[1,0,1\],\[1,0,0\],\[0,0,1\]\]' && mentions flat.tmp '"labels":\["no","perhaps","yes"\]'
}
check "accuracy" is_accuracy

cat >squad.json <<'END'
{"version": "v2.0", "data": [{"title": "Mill", "paragraphs": [{"context": "The mill was built in 1874.", "qas": [
  {"id": "1", "question": "When?", "answers": [{"text": "in 1874", "answer_start": 19}, {"text": "1874", "answer_start": 22}]},
  {"id": "2", "question": "By whom?", "answers": [], "is_impossible": true},
  {"id": "3", "question": "What?", "answers": [{"text": "The mill", "answer_start": 0}]},
  {"id": "4", "question": "Which?", "answers": [{"text": "The", "answer_start": 0}, {"text": "mill", "answer_start": 4}]}]}]}]}
END
echo '{"1": "1874.", "2": "", "4": "the old mill"}' >predictions.json
echo '{"1": 1874}' >wrong.json
echo '{"data": [{"paragraphs": [{"qas": [{"id": "1", "answers": [{"txt": "x"}]}]}]}]}' >damaged.json
check "squad: the data set" prints 'exact match  50.00
F1           66.67
answers      4, 1 of them missing' squad -r squad.json predictions.json
printf 'in 1874\nThe mill\n' >answers
printf '1874\na mill\n' >gold.answers
printf 'in 1874.\n\n' >more.answers
check "squad: lines" prints 'exact match  100.00
F1           100.00
answers      2' squad -r gold.answers -r more.answers --uneven answers
check "squad: an answer that is no string" refuses 'wrong.json: answer to question "1": expected a string, found 1874' \
    squad -r squad.json wrong.json
check "squad: a damaged data set" refuses 'damaged.json: answers.text: missing; expected a string' squad -r damaged.json predictions.json
check "squad: a file that is no JSON" refuses 'found: not JSON: line 1' squad -r squad.json found
check "squad: two data sets" usage_error 'one --reference, not 2' squad -r squad.json -r squad.json predictions.json

printf 'EU NNP B-ORG\nrejects VBZ O\nGerman JJ B-MISC\n\nPeter NNP B-PER\nBlackburn NNP I-PER\n' >gold.conll
printf 'EU B-ORG\nrejects O\nGerman I-LOC\n\nPeter B-PER\nBlackburn B-PER\n' >found.conll
printf 'B-ORG O B-MISC\nB-PER I-PER\n' >gold.tags
printf 'B-ORG O I-LOC\nB-PER B-PER\n' >found.tags
spans='processed 5 tokens with 3 phrases; found: 4 phrases; correct: 1.
accuracy:  60.00%; precision:  25.00%; recall:  33.33%; FB1:  28.57
              LOC: precision:   0.00%; recall:   0.00%; FB1:   0.00  1
             MISC: precision:   0.00%; recall:   0.00%; FB1:   0.00  0
              ORG: precision: 100.00%; recall: 100.00%; FB1: 100.00  1
              PER: precision:   0.00%; recall:   0.00%; FB1:   0.00  2'
check "spans: columns" prints "$spans" spans -r gold.conll found.conll
check "spans: lines" prints "$spans" spans -r gold.tags --tags lines found.tags
is_strict()
{
    exits 0 spans -r gold.conll --strict --json found.conll && mentions out.tmp '"predicted": 3' && ! grep LOC out.tmp
}
check "spans: strict" is_strict
sed 's/I-LOC/LOC/' found.conll >tag.conll
sed 's/German/French/' found.conll >token.conll
sed 's/^$/. O/' found.conll >joined.conll
sed 's/German/West German/' found.conll >columns.conll
printf 'B-ORG O\nB-PER B-PER\n' >fewer.tags
check "spans: no tag" refuses 'tag.conll: line 3: expected O, B-TYPE, I-TYPE, E-TYPE or S-TYPE, found "LOC"' spans -r gold.conll tag.conll
check "spans: another token" refuses 'token.conll: line 3: expected the token "German", found "French"' spans -r gold.conll token.conll
check "spans: sentences that do not end together" refuses 'joined.conll: line 4: expected an empty line' spans -r gold.conll joined.conll
check "spans: columns that vary" refuses 'columns.conll: line 3: expected 2 columns, as above, found 3' spans -r gold.conll columns.conll
check "spans: lines taken for columns" refuses 'gold.tags: line 1: .*--tags lines' spans -r gold.tags found.tags
check "spans: fewer tags" refuses 'fewer.tags: line 1: expected more tags' spans -r gold.tags --tags lines fewer.tags

check "sides of different length" refuses 'short: expected 2 lines, as right has, found 1' bleu -r right short
check "a reference of another length" refuses 'found: expected 1 lines, as short has, found 2' bleu -r right -r short found
check "an empty file" refuses 'empty is empty' bleu -r right empty
check "a file that is not there" refuses 'cannot read nothing' bleu -r nothing found
check "invalid UTF-8" refuses 'latin: byte 0xE9 at offset 2 (line 2) is not UTF-8' bleu -r right latin
check "NUL" refuses 'binary: NUL at offset 3 (line 2)' chrf -r binary found
check "a sentence without a reference" refuses 'sentence 2 has no reference' bleu -r other --uneven found
check "no reference" usage_error '--reference FILE is missing' bleu found
check "an unknown metric" usage_error 'did you mean "bleu"' belu -r right found
check "an option of another metric" usage_error 'bleu takes no --stem' bleu --stem -r right found
check "two references for accuracy" usage_error 'takes one --reference, not 2' accuracy -r right -r other found
done_testing
