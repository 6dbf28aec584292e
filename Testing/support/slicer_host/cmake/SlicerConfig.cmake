# Stand-in for an installed Slicer, for checking the extension's own CMake files without building Slicer: the macros take
# the arguments that Slicer's take, refuse what Slicer's refuse, and put the files where Slicer's packages have them.
set(Slicer_FOUND TRUE)
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")
