fz_test(checkpoint/test_layout LIBS fz_checkpoint)
fz_test(checkpoint/test_round_trip LIBS fz_checkpoint RANKS 1 2 4)
