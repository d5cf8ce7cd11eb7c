"""llama.cpp as a contender: the same decoder in a GGUF file, through the C interface of llama-cpp-python."""

import argparse
import ctypes
import json
import sys
import time
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Kind
from serve import Served, serve

# Published name of a layer's tensor, and GGUF's.
LAYER_TENSORS = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
TENSORS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
# GGML_LOG_LEVEL_ERROR in ggml.h.
LOG_LEVEL_ERROR = 4


def gguf_name(key: str) -> str:
    """A published tensor name as GGUF writes it."""
    if key in TENSORS:
        return TENSORS[key]
    _, _, layer, rest = key.split(".", 3)
    return f"blk.{layer}.{LAYER_TENSORS[rest]}"


def export(checkpoint: Path, precision: str, path: Path) -> None:
    """Writes the GGUF file: matrices in the precision, vectors in f32, as llama.cpp's own converter does."""
    from safetensors.torch import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if precision == "f32" else gguf.LlamaFileType.MOSTLY_BF16)
    # Token ids come from outside.
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    for key, tensor in load_file(checkpoint / "model.safetensors").items():
        value = tensor.float().numpy()
        if precision == "bf16" and value.ndim > 1:
            packed = gguf.quants.quantize(value, Kind.BF16)
            writer.add_tensor(gguf_name(key), packed, raw_dtype=Kind.BF16)
        else:
            writer.add_tensor(gguf_name(key), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@llama_cpp.llama_log_callback
def errors_only(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    """Thousands of lines tell what is loaded; only what is wrong goes to the log."""
    if level == LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


class Llama:
    """A loaded model with one sequence."""

    def __init__(self, path: Path, context: int, threads: int, exact: bool):
        llama_cpp.llama_log_set(errors_only, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        if not self.model:
            raise SystemExit(f"llama.cpp does not load {path}")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = context
        settings.n_threads = settings.n_threads_batch = threads
        if exact:
            # Its flash attention rounds to 16 bits on the CPU, and so does its cache by default.
            settings.type_k = settings.type_v = Kind.F32
            settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit("llama.cpp cannot make a context")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(context, 0, 1)

    def keep(self, positions: int) -> None:
        """Drops the cache from a position on."""
        if not llama_cpp.llama_memory_seq_rm(self.memory, 0, positions, -1):
            raise SystemExit("llama.cpp cannot cut its cache")

    def feed(self, ids: list[int], start: int) -> None:
        """Runs tokens; logits of the last one only."""
        batch = self.batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i == len(ids) - 1
        if code := llama_cpp.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode failed with {code}")
        llama_cpp.llama_synchronize(self.context)

    def logits(self) -> np.ndarray:
        """Logits (1, V) of the last position."""
        row = llama_cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(ctypes.cast(row, ctypes.POINTER(ctypes.c_float)), (1, self.vocab)).copy()


def load(args: argparse.Namespace) -> Served:
    ids = np.load(args.reference / "input_ids.npy")[0].tolist()
    length = len(ids)
    llama = Llama(args.model, length + max(args.steps, 16), args.threads, exact=args.precision == "f32")
    info = llama_cpp.llama_print_system_info().decode()
    about = {"version": f"llama-cpp-python {llama_cpp.__version__}", "variant": "CPU", "cpu": info}

    def prefill() -> list[float]:
        llama.keep(0)
        start = time.perf_counter()
        llama.feed(ids, 0)
        return [(time.perf_counter() - start) * 1e3]

    def prefilled() -> np.ndarray:
        prefill()
        return llama.logits()

    if args.work == "prefill":
        return Served(about, prefilled, prefill)
    forced = np.load(args.reference / "forced.npy")[0].tolist()
    prefill()

    def decoded() -> np.ndarray:
        llama.keep(length)
        for position in range(length, len(forced)):
            llama.feed(forced[position : position + 1], position)
        return llama.logits()

    def decode() -> list[float]:
        llama.keep(length)
        token, samples = ids[0], []
        for position in range(length, length + args.steps):
            start = time.perf_counter()
            llama.feed([token], position)
            token = int(llama.logits().argmax())
            samples.append((time.perf_counter() - start) * 1e3)
        return samples

    return Served(about, decoded, decode)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--export", action="store_true", help="write the GGUF file and end")
    parser.add_argument("--work", choices=["prefill", "decode"], required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", choices=["f32", "bf16"], required=True)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    if args.export:
        export(args.checkpoint, args.precision, args.model)
    else:
        serve(lambda: load(args))


if __name__ == "__main__":
    main()
