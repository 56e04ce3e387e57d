# `cmake --install`: the program, the library, its headers and a package for find_package(rlhf).
include(CMakePackageConfigHelpers)

set(RLHF_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/rlhf)
if(RLHF_BUILD_CLI)
  install(TARGETS rlhf_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(TARGETS rlhf ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY rlhf DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
configure_package_config_file(cmake/rlhfConfig.cmake.in ${PROJECT_BINARY_DIR}/rlhfConfig.cmake
                              INSTALL_DESTINATION ${RLHF_PACKAGE_DIR}
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
# While the version is 0.x a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/rlhfConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/rlhfConfig.cmake ${PROJECT_BINARY_DIR}/rlhfConfigVersion.cmake
              cmake/torch.cmake cmake/torch_check.cpp
        DESTINATION ${RLHF_PACKAGE_DIR})
install(PROGRAMS share/reward_worker.py DESTINATION ${CMAKE_INSTALL_DATADIR}/rlhf)
