# One static library per folder, linked in layer order (tools/layers.txt).
function(fz_folder name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.c ${CMAKE_SOURCE_DIR}/${name}/*.cc
       ${CMAKE_SOURCE_DIR}/${name}/*/*.c)
  list(FILTER sources EXCLUDE REGEX "/launch/main\\.c$")
  if(NOT sources)
    return()
  endif()
  add_library(fz_${name} STATIC ${sources})
  target_link_libraries(fz_${name} PUBLIC fz_flags fz_libs ${ARG_LIBS})
endfunction()

fz_folder(core LIBS Threads::Threads m)
fz_folder(dist LIBS fz_core MPI::MPI_C PkgConfig::HWLOC)
fz_folder(model LIBS fz_core PkgConfig::CBLAS m)
fz_folder(data LIBS fz_core PkgConfig::JANSSON PkgConfig::ARCHIVE JPEG::JPEG Threads::Threads m)
fz_folder(parallel LIBS fz_model fz_dist fz_core)
fz_folder(checkpoint LIBS fz_dist fz_core fz_hdf5 PkgConfig::JANSSON)
fz_folder(launch LIBS fz_parallel fz_checkpoint fz_data fz_model fz_dist fz_core PkgConfig::YAML
          PkgConfig::JANSSON)

if(EXISTS ${CMAKE_SOURCE_DIR}/launch/main.c)
  add_executable(florenz launch/main.c)
  target_link_libraries(florenz PRIVATE fz_launch)
endif()
