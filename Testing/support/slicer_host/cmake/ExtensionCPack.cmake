# Nothing is packaged; the files lie in the build folder as the package would have them.
# Slicer hands the metadata on without quotation marks, so that a semicolon cuts a value: the same is done here.
function(medals_print_description)
  cmake_parse_arguments(MY "" "EXTENSION_DESCRIPTION" "" ${ARGN})
  message(STATUS "description \"${MY_EXTENSION_DESCRIPTION}\"")
endfunction()
medals_print_description(EXTENSION_DESCRIPTION ${EXTENSION_DESCRIPTION})
