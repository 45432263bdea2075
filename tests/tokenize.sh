#!/bin/sh
# quern tokenize: tokenizers from text, ids of text and back, files of tokens; and what it says of bad input.  Needs no device.
command=tokenize
. "$SRCDIR/tests/command.sh"

# says STATUS MESSAGE WORDS...: `quern tokenize WORDS` ends so, with this message.
says()
{
    expected=$1 message=$2
    shift 2
    exits "$expected" "$@" </dev/null && {
        grep -qF -e "$message" err.tmp || {
            echo "no \"$message\" in:"
            cat err.tmp
            return 1
        }
    }
}
learns()
{
    "$quern" tokenize train --quiet --data text --out "$@"
}
# Whether a text comes back from lines of ids.
comes_back()
{
    "$quern" tokenize encode "$1" --data text >ids.tmp && "$quern" tokenize decode "$1" <ids.tmp | cmp - text
}
# The same from a file of tokens: comes_back_from_file TOKENIZER [TEXT [OPTIONS...]].
comes_back_from_file()
{
    tokenizer=$1
    text=${2:-text}
    shift 2
    "$quern" tokenize encode "$tokenizer" --quiet --data "$text" --out tokens "$@" &&
        "$quern" tokenize decode "$tokenizer" --data tokens | cmp - "$text"
}
ids()
{
    expected=$1
    shift
    found=$("$quern" tokenize encode "$@")
    [ "$found" = "$expected" ] || {
        echo "found \"$found\", expected \"$expected\""
        return 1
    }
}
# counts N PLACE: the number of 64 bits at a place in the file of tokens.
counts()
{
    found=$(od -An -t u8 -j "$2" -N 8 tokens | tr -d ' ')
    [ "$found" = "$1" ] || {
        echo "found $found, expected $1"
        return 1
    }
}

awk 'BEGIN {
    split("the a cat dog sat ran on mat rug and then sees naïve Übung don'"'"'t 12", words, " ")
    for (line = 0; line < 300; line++) {
        for (i = 0; i <= line % 9; i++)
            printf "%s%s", i ? " " : "", words[1 + (line * 7 + i * i * 3) % 16]
        print line % 9 ? "." : ""
    }
}' >text

check "byte pairs, split by GPT-2's pattern" learns pattern --vocab 300
check "come back" comes_back pattern
check "come back from a file" comes_back_from_file pattern text
check "the same again" learns again.json --vocab 300
check "is the same file" cmp pattern/tokenizer.json again.json
check "with a configuration for transformers" test -s pattern/tokenizer_config.json
check "byte pairs, with marks" learns marked --split mark --merges 40
check "come back" comes_back marked
check "come back from a file" comes_back_from_file marked text
check "line by line" comes_back_from_file marked text --documents line --end '<eos>'
check "each a document" counts 300 32
check "words" learns words --kind word
check "come back" comes_back words
check "words between white space" learns spaced --kind word --split space
check "come back" comes_back spaced
check "characters" learns characters --kind char
check "come back" comes_back characters
check "bytes" learns bytes --kind byte
check "come back from a file" comes_back_from_file bytes text
check "a side each: other tokenizers" sh -c "sed 's/the/der/g' text >other; \
    '$quern' tokenize train -q --data text other --out joint.json --vocab 300; ! cmp -s joint.json again.json"
check "a text from standard input" sh -c "'$quern' tokenize train -q --data - --out stdin.json --vocab 300 <text; cmp stdin.json again.json"

printf 'a\nb\n\nc\n\n\n\nd' >paragraphs
printf 'a\nb\n\nc\n\nd\n' >expected
check "paragraphs" "$quern" tokenize encode bytes --quiet --data paragraphs --out tokens --documents paragraph
check "three of them" counts 3 32
check "and what was between them" sh -c "'$quern' tokenize decode bytes --data tokens | cmp - expected"
check "two files" "$quern" tokenize encode bytes --quiet --data text paragraphs --out tokens
check "two documents" counts 2 32
check "one text" sh -c "cat text paragraphs >both; '$quern' tokenize decode bytes --data tokens | cmp - both"

printf 'A <unk>dog Zebra\n' >line
check "special and unknown tokens" sh -c "'$quern' tokenize encode words --data line | grep -Eq '^0 0 [0-9]+ 0\$'"
check "cleaning" learns clean --kind word --clean nfkc lowercase accents
check "is part of the tokenizer" sh -c "printf 'ÜBUNG   ｔｈｅ naïve\n' >line; \
    test \"\$('$quern' tokenize encode clean --data line | '$quern' tokenize decode clean)\" = 'ubung the naive'"
check "inspect names it" sh -c "'$quern' inspect clean/tokenizer.json | grep -q 'word, .* tokens'"

check "no text" says 1 'none: No such file' train --data none --out no
check "an empty text" says 1 '/dev/null is empty' train --data /dev/null --out no
check "a folder" says 1 'it is a folder' train --data . --out no
{
    cat text
    printf 'caf\351\n'
} >latin
offset=$(($(wc -c <text) + 3))
check "what is not UTF-8, when learning" says 1 "latin: byte 0xE9 at offset $offset (line 301)" train --data latin --out no
check "when encoding" says 1 "latin: byte 0xE9 at offset $offset (line 301)" encode pattern --data latin
check "when writing a file" says 1 "latin: byte 0xE9 at offset $offset (line 301)" encode pattern --data latin --out no
check "which is not there then" test ! -e no
printf 'a\0b\n' >nul
check "a NUL that a vocabulary cannot spell" says 1 'nul: NUL at offset 1 (line 1)' train --data nul --out no --kind word
check "a vocabulary that is too small" says 1 'a vocabulary of 200 is too small' train --data text --out no --vocab 200
check "a split of another kind" says 2 '--split mark is not for --kind word' train --data text --out no --kind word --split mark
check "no such step of cleaning" says 2 'not "upper"' train --data text --out no --clean upper
check "a special token twice" says 1 '"<a>" is named twice' train --data text --out no --special '<a>' '<a>'
check "a special token with a space" says 1 'printing characters of ASCII' train --data text --out no --special 'a b'
check "marks without a token for what is unknown" says 1 'needs the special token <unk>' \
    train --data text --out no --split mark --special '<pad>'
printf 'x\ny\342\202\254\n' >unknown
check "an unknown character, and its line" says 1 'unknown, line 1: character "x"' encode characters --data unknown
check "no such special token" says 1 'no special token "<end>"' encode words --data text --end '<end>'
check "--documents without --out" says 2 '--documents is for --out' encode words --data text --documents line
echo '1 2 x' >ids
check "no ids" says 1 'ids, line 1, column 5: expected ids between spaces' decode words --data ids
echo 99999 >ids
check "ids that are none" says 1 'token 99999 is not in the vocabulary' decode words --data ids

"$quern" tokenize encode words --quiet --data text --out tokens
check "tokens of another tokenizer" says 1 'tokens was made by another tokenizer' decode marked --data tokens
head -c 200 tokens >cut
check "a file that is cut" says 1 'cut: cut' decode words --data cut
head -c 20 tokens >cut
check "and cut in its header" says 1 'cut: no file of tokens: too short' decode words --data cut
sed '1s/^QNTOKENS.../QNTOKENS\x02\x00/' tokens >newer
check "another version" says 1 'version' decode words --data newer
{
    head -c 80 tokens
    printf '\377'
    tail -c +82 tokens
} >damaged
check "a file that is damaged" says 1 'damaged: damaged: its contents are not what was written' decode words --data damaged

check "a line of 8 MB without a space" sh -c "head -c 8000000 /dev/zero | tr '\\0' a >long; \
    '$quern' tokenize encode marked -q --data long --out tokens && '$quern' tokenize decode marked --data tokens | cmp - long"
done_testing
