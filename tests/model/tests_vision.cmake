fz_test(model/test_ops_vision LIBS fz_model)
fz_test(model/test_blocks_vision LIBS fz_model)
fz_test(model/test_blocks_vision_exact LIBS fz_model)
