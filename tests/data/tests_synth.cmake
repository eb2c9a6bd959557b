# Of data/synth* and data/tokenizer*.
foreach(name grammar tokenizer synth)
  fz_test(data/test_${name} LIBS fz_data)
endforeach()
