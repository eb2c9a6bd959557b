foreach(name arena checksum clock fault log memory rng settings status tree)
  fz_test(core/test_${name} LIBS fz_core)
endforeach()
