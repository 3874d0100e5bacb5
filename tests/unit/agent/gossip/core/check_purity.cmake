# SPDX-License-Identifier: Apache-2.0
# Fails where ARCHIVE refers to what a sans-IO library must not use. Read from its undefined symbols, so
# that neither a macro nor a helper can hide a call.
execute_process(COMMAND ${NM} --undefined-only --demangle ${ARCHIVE}
  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" lines "${symbols}")
set(banned
  "clock::now|clock_gettime|gettimeofday|[ U]time$|[ U]times$|clock$|nanosleep|usleep|[ U]sleep$"
  "SystemClock|SystemRandom|random_device|getrandom|getentropy|[ U]s?rand(om)?(_r)?$|arc4random"
  "[ U](socket|bind|connect|listen|accept4?|send|sendto|sendmsg|sendmmsg|recv|recvfrom|recvmsg)$"
  "[ U](open|openat|read|write|fopen|fread|fwrite|ioctl|poll|epoll_.*|select|fork|execve|getenv)$"
  "pthread_create|std::thread|std::mutex|pthread_mutex|condition_variable|std::async"
  "boost::|spdlog|SSL_|EVP_|getaddrinfo|std::basic_.fstream|std::cout|std::cerr")
set(found "")
set(count 0)
foreach(line IN LISTS lines)
  if(line MATCHES " U ")
    math(EXPR count "${count} + 1")
  endif()
  foreach(pattern IN LISTS banned)
    if(line MATCHES " U " AND line MATCHES "${pattern}")
      list(APPEND found "${line}")
    endif()
  endforeach()
endforeach()
if(count EQUAL 0)
  message(FATAL_ERROR "${ARCHIVE}: no symbols read; the check proves nothing")
endif()
if(found)
  list(JOIN found "\n" text)
  message(FATAL_ERROR "${ARCHIVE} must have no IO, clock, thread or random source, and uses:\n${text}")
endif()
message(STATUS "${count} references, none of them to IO, clocks, threads or random sources")
