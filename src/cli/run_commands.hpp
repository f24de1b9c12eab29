// `strata digest` and `strata export`: looking at a run without training it.
#pragma once

namespace CLI {
class App;
}

namespace strata::cli {

void add_run_commands(CLI::App& app, int& exit_code);

}  // namespace strata::cli
