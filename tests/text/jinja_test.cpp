// The template language, against Jinja2's recorded results.
#include <gtest/gtest.h>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"
#include "rlhf/text/jinja_run.h"
#include "tests/text/chat_template_fixtures.h"

namespace rlhf {
namespace {

using jinja::Fault;

std::string render(const std::string& source, const Json& context = Json::object()) {
  const auto program = jinja::parse_program(source);
  jinja::Variables variables;
  for (const auto& [name, value] : context.items())
    variables.emplace_back(name, jinja::from_json(value));
  const jinja::Clock clock = fixed_clock;
  return jinja::Run(*program, variables, {}, clock).render().text;
}

Fault fault_of(const std::string& source) {
  try {
    render(source);
  } catch (const Fault& fault) {
    return fault;
  }
  return Fault{"nothing was thrown", "", -1};
}

TEST(Jinja, EveryRecordedLineGivesJinja2sText) {
  const Json all = read_gz_json("template_micro.json.gz");
  for (const Json& row : all.at("cases")) {
    const std::string source = row[0];
    std::string got;
    bool raised = false;
    try {
      got = render(source, all.at("context"));
    } catch (const Fault& fault) {
      raised = true;
      got = "raised: " + fault.what;
    }
    if (row[1].is_null()) {
      EXPECT_TRUE(raised) << source << "\n gave " << got << "\n but Jinja2 raises";
    } else {
      EXPECT_EQ(got, row[1].get<std::string>()) << source;
    }
  }
}

TEST(Jinja, FaultsCarryTheirLine) {
  EXPECT_EQ(fault_of("a\n{{ b.c }}\n").line, 2);
  EXPECT_EQ(fault_of("a\n\n{% for x in y %}\n").line, 3);
  EXPECT_EQ(fault_of("{# a\nb #}\n{{ 1 / 0 }}").line, 3);
  EXPECT_EQ(fault_of("{% macro f() %}\n{{ x.y }}\n{% endmacro %}\n{{ f() }}").line, 2);
  EXPECT_EQ(fault_of("\n{{ 'a' | nope }}").line, 2);
}

TEST(Jinja, UndefinedValuesAreNamedWhereverTheyAreUsed) {
  for (const char* const source : {"{{ gone + 1 }}", "{{ 1 < gone }}", "{{ gone > 1 }}",
                                   "{% for x in gone.more %}{% endfor %}", "{{ gone() }}",
                                   "{{ gone | int }}", "{{ [2, gone] | sort }}"}) {
    EXPECT_EQ(fault_of(source).what, "'gone' is undefined.") << source;
  }
}

TEST(Jinja, UnknownNamesListWhatThereIs) {
  EXPECT_NE(fault_of("{{ 1 | nope }}").hint.find("tojson"), std::string::npos);
  EXPECT_NE(fault_of("{{ 1 is nope }}").hint.find("divisibleby"), std::string::npos);
  EXPECT_NE(fault_of("{% nope %}").hint.find("generation"), std::string::npos);
  for (const char* tag :
       {"include 'a'", "import 'a' as b", "extends 'a'", "block a", "from 'a' import b"}) {
    EXPECT_NE(fault_of("{% " + std::string(tag) + " %}").what.find("not supported"),
              std::string::npos)
        << tag;
  }
}

TEST(Jinja, RunawayTemplatesEndInAFault) {
  const std::string many(5000, '(');
  const auto repeat = [](const std::string& text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  const std::string hostile[] = {
      "{{ " + many + " }}",
      "{{ " + repeat("not ", 5000) + "1 }}",
      "{{ " + repeat("-", 5000) + "1 }}",
      "{{ 1" + repeat(" + 1", 5000) + " }}",
      "{{ 1" + repeat(" | abs", 5000) + " }}",
      "{{ x" + repeat("[0]", 5000) + " }}",
      "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
      "{% set " + repeat("(", 5000) + "a" + repeat(")", 5000) + " = 1 %}",
      repeat("{% if 1 %}", 5000) + repeat("{% endif %}", 5000),
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{{ 'a' * 1000000000000 }}",
      "{{ [1] * 1000000000000 }}",
      "{{ 'a'.center(1000000000000) }}",
      "{{ '%1000000000000d' % 1 }}",
      "{{ '{:1000000000000}'.format(1) }}",
      "{{ range(10 ** 15) }}",
      "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x "
      "%}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% "
      "endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}",
      "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ (-9223372036854775807 - 1) // -1 }}",
      "{{ 2 ** 64 }}",
  };
  for (const std::string& source : hostile) {
    EXPECT_THROW(render(source), Fault) << source.substr(0, 80);
  }
}

TEST(Jinja,
     NamespacesThatHoldThemselvesAreFreed) {  // the leak checker of the sanitizer build looks on
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{% endmacro %}{% "
                   "set ns.f = f %}x"),
            "x");
  EXPECT_EQ(render("{% set ns = namespace(p=none) %}{% for i in range(50000) %}{% set ns.p = "
                   "namespace(p=ns.p) %}"
                   "{% endfor %}x"),
            "x");
  EXPECT_THROW(render("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"), Fault);
}

TEST(Jinja, BytesThatAreNoUtf8Survive) {
  const std::string bytes = "a\xff\xc3(\xe2\x82";
  EXPECT_EQ(render("{{ x }}{{ x[1:] }}{{ x | trim }}", {{"x", bytes}}),
            bytes + bytes.substr(1) + bytes);
}

TEST(Jinja, MutatedTemplatesNeverCrash) {
  const Json all = read_gz_json("template_micro.json.gz");
  const Json& rows = all.at("cases");
  static const std::string kPieces[] = {
      "{{",     "}}",   "{%", "%}", "-", "|", "(", ")", "[", "]", "'",  "\"", ".",  "if",  "for",
      "endfor", " in ", "~",  "**", "9", "x", "{", "}", ":", ",", "\n", "\\", "is", "\xe2"};
  Random random(7, {1});
  int rendered = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string source = rows[random.below(rows.size())][0];
    if (random.below(3) == 0) source += rows[random.below(rows.size())][0].get<std::string>();
    for (uint64_t edits = 1 + random.below(4); edits > 0; --edits) {
      const size_t at = random.below(source.size() + 1);
      const size_t cut = random.below(3) == 0 ? random.below(6) : 0;
      source.replace(at, cut, kPieces[random.below(std::size(kPieces))]);
    }
    if (source.find("00") != std::string::npos)
      continue;  // hundred thousands of loops teach nothing more
    try {
      render(source, all.at("context"));
      ++rendered;
    } catch (const Fault&) {
    }
  }
  EXPECT_GT(rendered, 1000);  // the mutations do not only break the syntax
}

}  // namespace
}  // namespace rlhf
