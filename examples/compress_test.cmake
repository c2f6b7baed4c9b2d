# compress on tiny CLIPs of all origins, and zero_shot on what comes of it:
# cmake -DMAKE=<make_tiny_clip> -DCOMPRESS=<compress> -DZERO_SHOT=<zero_shot> -DFOLDER=<scratch> -P compress_test.cmake
unset(ENV{COLUMNS})
file(REMOVE_RECURSE ${FOLDER})
execute_process(COMMAND ${MAKE} ${FOLDER} COMMAND_ERROR_IS_FATAL ANY)

include(${CMAKE_CURRENT_LIST_DIR}/expect.cmake)
set(limit TIMEOUT 60)

set(repair --calibrate photos --repair captions.tsv --steps 3 --batch 2 --threads 2)
set(labels --labels cat dog --threads 2 --template {})
foreach(model IN ITEMS clip openai/tiny.safetensors clip_moe)
  foreach(prune IN ITEMS wanda sparsegpt)
    string(MAKE_C_IDENTIFIER "${model}_${prune}" out)
    expect(0 "\\| all \\|.*50\\.0.*\\| dense \\| ${prune} 2:4 \\| repaired \\|.*${out} written.*peak memory" ${COMPRESS} --model
           ${model} --prune ${prune} --out ${out} ${repair})
    expect(0 "3 photographs, 2 labels" ${ZERO_SHOT} photos ${labels} --model ${out})
  endforeach()
endforeach()
expect(0 "vision.encoder.blocks.0 \\|.*50\\.0.*\\| dense \\| magnitude vision\\*=1:2 \\|" ${COMPRESS} --model clip --prune magnitude
       --pattern "vision*=1:2" --calibrate photos --out by_path)
expect(2 "is there already; --overwrite" ${COMPRESS} --model clip --prune magnitude --out by_path)
expect(2 "--prune wanda looks at activations" ${COMPRESS} --model clip --out other)
expect(2 "--pattern: NOfM: kept is 4" ${COMPRESS} --model clip --pattern 4:4 --out other)
expect(1 "matches no weight" ${COMPRESS} --model clip --pattern "nowhere*=2:4" --calibrate photos --out other)
