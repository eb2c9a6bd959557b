fz_test(model/test_program LIBS fz_model)
fz_test(model/test_names LIBS fz_model)
