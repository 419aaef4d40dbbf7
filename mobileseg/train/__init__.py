"""Data, augmentation, losses, metrics and the training loop.

config     every number a recipe may say about training; imports no torch
pairs      which image belongs to which mask: lists, folders, CamVid's layout
pictures   image and mask files to uint8 arrays, each mistake with the file's name
data       a split decoded once and kept as uint8
augment    a batch of uint8 pictures to a changed batch of net inputs
losses     cross entropy, Dice, Lovász and weighted sums
metrics    IoU and boundary F-score over a data set; numpy only
evaluate   any executor against the masks at their own size
optim      parameter groups, learning-rate schedule, moving average of the weights
checkpoint the whole training state as one safetensors file
console    bar or log lines on stderr
step       one batch: its loss, its gradient, and what is wrong with them
parallel   several processes that train one network
loop       fit
"""
