#include "gatefold/models/mixture_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

using gatefold::test::message_of;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

json golden(const std::string& name) {
  return read_json_object(gatefold::test::test_data("mixtures") / name / "config.json");
}
MixtureConfig read(const json& config) { return mixture_config(config, "config.json"); }
TopKRouterOptions router_of(const json& config) { return std::get<TopKRouterOptions>(read(config).options.router); }
std::string refusal(const json& config) {
  return message_of<FormatError>([&] { (void)read(config); });
}
/// A configuration with other values; null takes one out.
json with(json config, const json& changes) {
  for (const auto& [key, value] : changes.items())
    if (value.is_null())
      config.erase(key);
    else
      config[key] = value;
  return config;
}

// What the hub's config.json of DeepSeek-V3 says of its mixtures.
TEST(MixtureConfig, OfDeepSeekV3AsPublished) {
  const auto config = read(with(golden("deepseek_v3"), {{"hidden_size", 7168},
                                                        {"moe_intermediate_size", 2048},
                                                        {"n_routed_experts", 256},
                                                        {"num_experts_per_tok", 8},
                                                        {"n_group", 8},
                                                        {"topk_group", 4},
                                                        {"n_shared_experts", 1},
                                                        {"scoring_func", "sigmoid"},
                                                        {"topk_method", "noaux_tc"},
                                                        {"aux_loss_alpha", 0.001},
                                                        {"ep_size", 1},
                                                        {"moe_layer_freq", 1},
                                                        {"seq_aux", true},
                                                        {"rope_scaling", {{"type", "yarn"}}},
                                                        {"quantization_config",
                                                         {{"activation_scheme", "dynamic"},
                                                          {"fmt", "e4m3"},
                                                          {"quant_method", "fp8"},
                                                          {"weight_block_size", {128, 128}}}}}));
  const auto& router = std::get<TopKRouterOptions>(config.options.router);
  EXPECT_EQ(config.family->model_type, "deepseek_v3");
  EXPECT_EQ(router.width, 7168);
  EXPECT_EQ(router.num_experts, 256);
  EXPECT_EQ(router.num_selected, 8);
  EXPECT_EQ(router.score, RouterScore::sigmoid);
  EXPECT_TRUE(router.selection_bias);
  EXPECT_FALSE(router.bias);
  EXPECT_EQ(router.groups.count, 8);
  EXPECT_EQ(router.groups.kept, 4);
  EXPECT_EQ(router.groups.score, GroupScore::two_best);
  EXPECT_EQ(router.renormalise, Renormalise::before_dropping);
  EXPECT_EQ(router.epsilon, 1e-20);
  EXPECT_EQ(router.scale, 2.5);
  EXPECT_EQ(config.options.hidden, 2048);
  EXPECT_EQ(config.options.shared, SharedExpert::plain);
  EXPECT_EQ(config.options.shared_hidden, 2048);
  EXPECT_EQ(config.sizes.fp8_rows, 128);
  EXPECT_EQ(config.sizes.num_experts, 256);
}

TEST(MixtureConfig, OfEachFamilySaysWhatIsItsOwn) {
  EXPECT_EQ(router_of(golden("mixtral")).renormalise, Renormalise::before_dropping);
  EXPECT_EQ(router_of(golden("qwen2_moe")).renormalise, Renormalise::none);
  EXPECT_EQ(router_of(golden("qwen3_moe")).renormalise, Renormalise::before_dropping);
  EXPECT_EQ(router_of(golden("olmoe")).renormalise, Renormalise::none);
  EXPECT_EQ(read(golden("qwen2_moe")).options.shared, SharedExpert::gated);
  EXPECT_EQ(read(golden("qwen2_moe")).options.shared_hidden, 10);
  EXPECT_EQ(router_of(golden("deepseek_v2")).groups.score, GroupScore::best);
  EXPECT_EQ(router_of(golden("deepseek_v2")).groups.kept, 2);
  EXPECT_EQ(router_of(golden("deepseek_v2_lite")).groups.count, 1);
  EXPECT_EQ(read(golden("deepseek_v2")).options.shared_hidden, 8) << "two experts wide";
  EXPECT_TRUE(read(golden("deepseek_v2")).options.shared_bias);
  EXPECT_EQ(read(golden("granitemoe")).options.shared, SharedExpert::none);
  EXPECT_EQ(read(golden("granitemoeshared")).options.shared, SharedExpert::plain);
  EXPECT_EQ(read(with(golden("granitemoeshared"), {{"shared_intermediate_size", 0}})).options.shared,
            SharedExpert::none);
  EXPECT_TRUE(router_of(golden("gpt_oss")).bias && read(golden("gpt_oss")).options.bias);
  EXPECT_EQ(read(golden("gpt_oss")).options.activation, ExpertActivation::gpt_oss);
  EXPECT_EQ(router_of(golden("lfm2_moe")).epsilon, 1e-6);
  EXPECT_TRUE(router_of(golden("lfm2_moe")).selection_bias);
  EXPECT_FALSE(router_of(with(golden("lfm2_moe"), {{"use_expert_bias", false}})).selection_bias);
  EXPECT_EQ(read(golden("llama4")).options.weighed, Weighed::inputs);
  const auto phi = read(golden("phimoe"));
  EXPECT_EQ(std::get<SparseMixerRouterOptions>(phi.options.router).tolerance, 0.05);
  EXPECT_EQ(phi.options.input_noise, 0.01);
  EXPECT_EQ(read(with(golden("mixtral"), {{"router_jitter_noise", .1}})).options.input_noise, .1);
}

TEST(MixtureConfig, WithoutRenormalisationHasNoEpsilon) {
  const auto router = router_of(with(golden("deepseek_v3"), {{"norm_topk_prob", false}}));
  EXPECT_EQ(router.renormalise, Renormalise::none);
  EXPECT_EQ(router.epsilon, 0);
}

TEST(MixtureConfig, OfPicturesAndTextIsThatOfTheText) {
  const json both{{"model_type", "llama4"}, {"vision_config", json::object()}, {"text_config", golden("llama4")}};
  EXPECT_EQ(read(both).options.weighed, Weighed::inputs);
  EXPECT_THAT(refusal(with(both, {{"text_config", {{"model_type", "llama4_text"}}}})),
              HasSubstr("config.json: text_config: «hidden_size» is missing"));
}

TEST(MixtureConfig, AllThatIsWrongIsSaidAtOnce) {
  const auto why = refusal(with(golden("deepseek_v3"), {{"hidden_size", nullptr},
                                                        {"n_routed_experts", 2.5},
                                                        {"num_experts_per_tok", {3, 4}},
                                                        {"scoring_func", "softmax"},
                                                        {"topk_method", "greedy"},
                                                        {"norm_topk_prob", "yes"},
                                                        {"hidden_act", "gelu"},
                                                        {"routed_scaling_factor", -1},
                                                        {"quantization_config", {{"quant_method", "awq"}}},
                                                        {"mixture_of_tomorrow", 3},
                                                        {"and_that", "on"}}));
  for (const auto* line :
       {"config.json: «hidden_size» is missing\n", "«n_routed_experts» is 2.5, expected a whole number of 1..1048576",
        "«num_experts_per_tok» is [3,4], expected a whole number",
        R"(«scoring_func» is "softmax", expected "sigmoid", all that is known of a deepseek_v3)",
        R"(«topk_method» is "greedy", expected "noaux_tc")", R"(«norm_topk_prob» is "yes", expected true or false)",
        R"(«hidden_act» is "gelu", expected "silu")", "«routed_scaling_factor» is -1, expected a number above 0",
        R"(«quantization_config» is {"quant_method":"awq"}, expected a «quant_method» of "fp8" or "mxfp4")",
        "«mixture_of_tomorrow» is 3, expected not to find it", R"(«and_that» is "on", expected not to find it)"})
    EXPECT_THAT(why, HasSubstr(line));
  EXPECT_EQ(std::ranges::count(why, '\n'), 10) << why;
}

TEST(MixtureConfig, WhatIsOffIsNoMatter) {
  EXPECT_EQ(message_of<FormatError>([] {
              (void)read(with(golden("mixtral"), {{"mixture_of_tomorrow", false}, {"_name_or_path", "x"}}));
            }),
            "nothing thrown");
}

TEST(MixtureConfig, OneThingUnderTwoNamesHasToBeOneThing) {
  EXPECT_THAT(refusal(with(golden("gpt_oss"), {{"experts_per_token", 3}})),
              HasSubstr("«experts_per_token» is 3, expected 2 as «num_experts_per_tok» has it"));
  EXPECT_EQ(router_of(with(golden("gpt_oss"), {{"experts_per_token", 2}})).num_selected, 2);
}

TEST(MixtureConfig, ValuesThatFamiliesFixAreHeldToThem) {
  EXPECT_THAT(refusal(with(golden("gpt_oss"), {{"swiglu_limit", 10}})), HasSubstr("«swiglu_limit» is 10, expected 7"));
  EXPECT_THAT(refusal(with(golden("gpt_oss"), {{"swiglu_alpha", 1}})), HasSubstr("«swiglu_alpha» is 1"));
  EXPECT_EQ(read(with(golden("gpt_oss"), {{"swiglu_limit", 7}})).options.hidden, 6) << "7 is 7.0";
  EXPECT_THAT(refusal(with(golden("deepseek_v2"), {{"norm_topk_prob", true}})), HasSubstr("«norm_topk_prob» is true"));
  EXPECT_THAT(refusal(with(golden("deepseek_v2"), {{"topk_method", "noaux_tc"}})), HasSubstr("group_limited_greedy"));
  EXPECT_THAT(refusal(with(golden("llama4"), {{"router_jitter_noise", .1}})), HasSubstr("«router_jitter_noise»"));
  EXPECT_THAT(refusal(with(golden("mixtral"), {{"router_jitter_noise", 1.5}})), HasSubstr("a share from 0 to 1"));
  EXPECT_THAT(refusal(with(golden("mixtral"), {{"mlp_bias", true}})), HasSubstr("«mlp_bias» is true"));
}

TEST(MixtureConfig, OptionsThatContradictEachOtherAreAFaultOfTheFile) {
  EXPECT_THAT(refusal(with(golden("mixtral"), {{"num_experts_per_tok", 5}})),
              AllOf(HasSubstr("config.json: "), HasSubstr("num_selected is 5, expected 1..4")));
  EXPECT_THAT(refusal(with(golden("deepseek_v3"), {{"n_group", 3}})), HasSubstr("a divisor of the 8 experts"));
  EXPECT_THAT(refusal(with(golden("phimoe"), {{"num_experts_per_tok", 7}})), HasSubstr("num_selected"));
}

TEST(MixtureConfig, ScalesOfEightBitsStandForBlocks) {
  const auto fp8 = [](const json& how) {
    return with(golden("deepseek_v3"), {{"quantization_config", with({{"quant_method", "fp8"}}, how)}});
  };
  EXPECT_EQ(read(fp8({{"weight_block_size", {4, 8}}})).sizes.fp8_columns, 8);
  for (const json& how : {json::object(), json{{"weight_block_size", {4}}}, json{{"weight_block_size", {0, 8}}}})
    EXPECT_THAT(refusal(fp8(how)), HasSubstr("a «weight_block_size» of two whole numbers"));
  EXPECT_THAT(refusal(fp8({{"weight_block_size", {4, 8}}, {"fmt", "e5m2"}})), HasSubstr("e4m3"));
}

TEST(MixtureConfig, OtherModelsAreRefusedWithTheListOfThoseKnown) {
  EXPECT_THAT(refusal({{"model_type", "bert"}}), AllOf(HasSubstr(R"(«model_type» is "bert")"), HasSubstr("mixtral, "),
                                                       HasSubstr("phimoe"), Not(HasSubstr(", ,"))));
  EXPECT_THAT(refusal(json::object()), HasSubstr("«model_type» is null"));
}

}  // namespace
}  // namespace gatefold
