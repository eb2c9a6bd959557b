fz_test(model/test_program LIBS fz_model)
