# For tests of programs, which run in ${FOLDER}:
# expect(STATUS PATTERN PROGRAM ARGUMENT...): the exit status, and a regular expression on all that is printed, which is
# in `output` afterwards. ${limit} is what else execute_process is told, as in set(limit TIMEOUT 60).
function(expect wanted pattern)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${FOLDER} ${limit} RESULT_VARIABLE status OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT status EQUAL wanted OR NOT output MATCHES "${pattern}")
    message(SEND_ERROR "${ARGN}\nended with ${status}, expected ${wanted} and a match of «${pattern}»:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()
