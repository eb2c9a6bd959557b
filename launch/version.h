/* Of the program; the same number stands in CMakeLists.txt (a test compares them). */
#ifndef FZ_LAUNCH_VERSION_H
#define FZ_LAUNCH_VERSION_H

#define FZ_VERSION "0.1.0"

#endif
