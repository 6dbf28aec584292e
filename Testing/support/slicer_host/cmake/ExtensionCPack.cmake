# Nothing is packaged; the files lie in the build folder as the package would have them.
