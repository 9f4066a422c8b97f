"""Speed, side by side: our service, the plain way, and published inference servers, with the same weights.

texts        texts of realistic lengths, no two of them equal
schedule     when requests are due, and percentiles of how long they took
generator    a process of its own: sends what is due, measures from when it was due
driving      one stage of load: generator, CPU time and memory of the server
contenders   who is measured: how each is started and asked
processes    starting and ending them
trial        one contender, one round: warm-up, saturation, fixed rates, the highest sustained rate
graph        the weights of a model folder's encoder.onnx, as 32-bit floats
torch_*      the same weights as a transformers model (processes of their own: they need torch)
*_server     the other servers (likewise)
limits       what this machine can multiply, and how much of it is reached
accuracy     what 8-bit weights cost
figures      medians and ratios
tables       what is printed and written
run          all of it in order
"""
