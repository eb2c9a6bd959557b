foreach(family math gemm elementwise dropout activation norm attention rope embedding cross_entropy top_k
        adamw)
  fz_test(model/test_ops_${family} LIBS fz_model)
endforeach()
