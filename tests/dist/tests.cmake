fz_test(dist/test_world LIBS fz_dist LABELS mpi) # starts mpirun itself
fz_test(dist/test_group LIBS fz_dist RANKS 1 2 3 4)
fz_test(dist/test_mesh LIBS fz_dist RANKS 1 3 4 8)
fz_test(dist/test_ordered_sum LIBS fz_dist RANKS 1 2 3 4)
