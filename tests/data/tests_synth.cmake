# Of data/synth* and data/tokenizer*.
foreach(name grammar utf8 tokenizer bpe tokenizers_reference prompt)
  fz_test(data/test_${name} LIBS fz_data)
endforeach()
# Trains SentencePiece models several times: minutes under a sanitizer.
fz_test(data/test_synth LIBS fz_data LABELS slow)
